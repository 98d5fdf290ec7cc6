# The matching rows' ground: what the sidecar spends on an event beside many webhooks of the organization that do not get it.
package Headgate::Bench::Matching;
use v5.36;

use Exporter qw(import);

use Headgate::Bench::Drain;
use Headgate::Bench::Events qw(write_events);
use Headgate::Bench::Measure qw(alternate);
use Headgate::Bench::Redis;

our @EXPORT_OK = qw(matching_row);

my ($MANY, $FEW) = (10_000, 10);

# The first webhook again and again, under other ids; `i` is the number of each.
sub others ($count, $changes) {
    return <<~"SQL";
        CREATE TEMP TABLE numbers AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $count) SELECT i FROM n;
        CREATE TEMP TABLE one AS SELECT * FROM webhooks LIMIT 1;
        DELETE FROM webhooks;
        CREATE TEMP TABLE made AS SELECT numbers.i, one.* FROM numbers, one;
        UPDATE made SET id = printf('0192a000-0000-7000-8000-%012x', i), $changes;
        ALTER TABLE made DROP COLUMN i;
        INSERT INTO webhooks SELECT * FROM made;
        UPDATE organizations SET generation = generation + 1;
        SQL
}

# A row. `which` says what webhooks they are that `changes` (of SQL) makes; `conditions` are more of them.
sub matching_row (%args) {
    return {
        title    => "$args{name}: µs of the sidecar per event beside $MANY webhooks $args{which}",
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
                $drain->change(others($count, $args{changes}));
                return $drain->persist($options->{events}, 0);
            };
            my ($ours, $theirs) = alternate($options->{pairs}, $say, sub { $run->($MANY) }, sub { $run->($FEW) });
            return {
                ours       => $ours,
                theirs     => $theirs,
                conditions => [
                    "$options->{events} events of 1 KiB and one type in 8 streams beforehand, drained and persisted; nothing is delivered",
                    $args{conditions}->@*,
                    'processor time from when a tenth of the events is persisted: subscriptions are compiled once, before',
                    'SQLite WAL, synchronous=FULL', $redis->describe,
                ],
            };
        },
    };
}

1;
