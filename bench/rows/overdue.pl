# A start after two days with very many retries overdue: they are spread, and new events do not wait for them.
use v5.36;

use Headgate::Bench::Paced;

my $DUE       = $ENV{DUE} // 100_000;
my $SPREAD_S  = 60;
my $P99_MS    = 1000;

return {
    title    => "new events while $DUE retries, overdue at the start, are sent over at least $SPREAD_S s",
    against  => "$P99_MS ms",
    ratio    => 'theirs/ours',
    at_least => 1,
    lines    => [[p99_ms => '99th percentile, ms from creation to 2xx'], [median_ms => 'median'], [spread_s => 's from the first retry to the last']],
    run      => sub ($t, $options, $say) {
        my $road = Headgate::Bench::Paced->start($t, due => 'fast');
        $road->serve;
        $say->("making $DUE deliveries");
        $road->load_due($DUE);
        $road->stop;
        $road->make_overdue;
        $t->output_of('sqlite3', $road->{sidecar}{database}, 'DELETE FROM attempts');
        $say->("starting with $DUE overdue");
        $road->serve;
        my $with = $road->latency($SPREAD_S);
        $t->wait_for('the last retry', sub { ($road->due_done)[0] >= $DUE }, 300);
        (undef, $with->{spread_s}) = $road->due_done;
        $road->stop;
        $t->die_with_logs("the retries took $with->{spread_s} s, less than $SPREAD_S s") if $with->{spread_s} < $SPREAD_S;
        return { ours => [$with], theirs => [{ p99_ms => $P99_MS, spread_s => $SPREAD_S }], conditions => ['200 events of 1 KiB a second in groups of 10; SQLite, events synced when committed (FULL), results within 100 ms'] };
    },
};
