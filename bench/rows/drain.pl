# From Redis into the store, against a loop that only writes the same rows.
use v5.36;
use utf8;

use Headgate::Bench::Drain;
use Headgate::Bench::Events qw(write_events);
use Headgate::Bench::Measure qw(alternate);
use Headgate::Bench::Redis;

my @BATCHES = (64, 512, 4096);

return {
    title    => 'drain and persist into SQLite (synchronous=FULL), one matching webhook: events per second',
    against  => 'a plain loop inserting the same rows (peers/sqlite_loop.cpp), at its best batch of ' . join(', ', @BATCHES),
    ratio    => 'ours/theirs',
    at_least => 0.5,
    lines    => [
        [rate     => 'events per second'],
        (map { ["rate_$_" => "the same in batches of $_"] } @BATCHES),
        [cpu_us   => 'µs of the process per event'],
        [redis_us => 'µs of Redis per event'],
    ],
    run => sub ($t, $options, $say) {
        my $redis = Headgate::Bench::Redis->start($t);
        my (undef, $payloads_file) = write_events($t);
        my $events = $options->{events};
        my $drain  = Headgate::Bench::Drain->prepare(
            $t, redis => $redis, payloads_file => $payloads_file, change => 'UPDATE organizations SET is_suspended = 1',
        );
        my $ours   = sub { $drain->persist($events, $events) };
        my $theirs = sub {
            my %result = (rate => 0);
            for my $batch (@BATCHES) {
                $drain->reset_store;
                my $cpu_before = (times)[2] + (times)[3];
                my $said = $t->json_of($t->program('sqlite_loop'), $drain->database, $payloads_file, $events, $batch);
                my $cpu  = (times)[2] + (times)[3] - $cpu_before;
                my $rate = $result{"rate_$batch"} = $said->{inserted} / $said->{seconds};
                @result{qw(rate cpu_us)} = ($rate, $cpu * 1e6 / $events) if $rate > $result{rate};
            }
            return \%result;
        };
        my ($our_results, $their_results) = alternate($options->{pairs}, $say, $ours, $theirs);
        return {
            ours       => $our_results,
            theirs     => $their_results,
            conditions => [
                "$events events of 1 KiB in 8 streams beforehand; one webhook matches each, its organization is suspended, so that nothing is sent",
                'both: one row in events and one in deliveries for each event, SQLite WAL, synchronous=FULL, the same schema, indexes and pragmas',
                $redis->describe,
                'ours: from the first XREADGROUP that Redis answered until the streams are empty; theirs: from the first BEGIN to the last COMMIT',
            ],
        };
    },
};
