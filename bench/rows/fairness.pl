# An endpoint that answers after 29 s, with very many deliveries due to it, beside a healthy one.
use v5.36;

use Headgate::Bench::Paced;

my $DUE = $ENV{DUE} // 100_000;

return {
    title    => "new events to a healthy endpoint while $DUE deliveries are due to one that answers after 29 s",
    against  => 'the same sidecar and endpoint before',
    ratio    => 'theirs/ours',
    at_least => 0.5,
    lines    => [[p99_ms => '99th percentile, ms from creation to 2xx'], [median_ms => 'median']],
    run      => sub ($t, $options, $say) {
        my $road = Headgate::Bench::Paced->start($t, due => 'slow');
        $road->serve;
        $say->('without');
        $road->latency(2);
        # Several spans of each: whatever else the machine does for a moment is in one of them.
        my @before = map { $road->latency($options->{seconds}) } 1 .. $options->{pairs};
        $say->("with $DUE due");
        $road->load_due($DUE);
        my @with = map { $road->latency($options->{seconds}) } 1 .. $options->{pairs};
        $road->stop;
        return { ours => \@with, theirs => \@before, conditions => ['200 events of 1 KiB a second in groups of 10; SQLite, events synced when committed (FULL), results within 100 ms'] };
    },
};
