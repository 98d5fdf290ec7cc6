# What webhooks cost that do not want an event.
use v5.36;
use utf8;

use Headgate::Bench::Drain;
use Headgate::Bench::Events qw(write_events);
use Headgate::Bench::Measure qw(alternate);
use Headgate::Bench::Redis;

my ($MANY, $FEW) = (10_000, 10);

# The first webhook again and again, under other ids: half of them want one other type, half a pattern of other types.
sub others ($count) {
    return <<~"SQL";
        CREATE TEMP TABLE numbers AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $count) SELECT i FROM n;
        CREATE TEMP TABLE one AS SELECT * FROM webhooks LIMIT 1;
        DELETE FROM webhooks;
        INSERT INTO webhooks SELECT one.* FROM one WHERE 0;
        CREATE TEMP TABLE made AS SELECT numbers.i, one.* FROM numbers, one;
        UPDATE made SET id = printf('0192a000-0000-7000-8000-%012x', i),
            events = iif(i % 2, '["order.other-' || i || '"]', '["shop-' || i || '.*"]');
        ALTER TABLE made DROP COLUMN i;
        INSERT INTO webhooks SELECT * FROM made;
        UPDATE organizations SET generation = generation + 1;
        SQL
}

return {
    title    => "matching: µs of the sidecar per event beside $MANY webhooks that do not match",
    against  => "the same beside $FEW",
    ratio    => 'theirs/ours',
    at_least => 0.67,    # at most 1.5 times
    lines    => [
        [cpu_us   => 'µs of the sidecar per event'],
        [redis_us => 'µs of Redis per event'],
        [rate     => 'events per second'],
        [peak_mib => "the sidecar's peak memory, MiB"],
    ],
    run => sub ($t, $options, $say) {
        my $redis = Headgate::Bench::Redis->start($t);
        my (undef, $payloads_file) = write_events($t);
        my $drain = Headgate::Bench::Drain->prepare($t, redis => $redis, payloads_file => $payloads_file);
        my $run   = sub ($count) {
            $drain->reset_store;
            $drain->change(others($count));
            return $drain->persist($options->{events}, 0);
        };
        my ($ours, $theirs) = alternate($options->{pairs}, $say, sub { $run->($MANY) }, sub { $run->($FEW) });
        return {
            ours       => $ours,
            theirs     => $theirs,
            conditions => [
                "$options->{events} events of 1 KiB and one type in 8 streams beforehand, drained and persisted; nothing is delivered",
                'half of the webhooks want one other type (order.other-N), half a pattern (shop-N.*); all of one organization, without filters',
                'processor time from when a tenth of the events is persisted: subscriptions are compiled once, before',
                'SQLite WAL, synchronous=FULL', $redis->describe,
            ],
        };
    },
};
