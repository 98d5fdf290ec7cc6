# The whole way through the sidecar, against the same in Node without a store.
use v5.36;
use utf8;

use Headgate::Bench::Drain;
use Headgate::Bench::Events qw(write_events);
use Headgate::Bench::Measure qw(alternate);
use Headgate::Bench::Peers qw(deliver_in_node why_no_fastify);
use Headgate::Bench::Redis;

my $IN_FLIGHT = 16;    # a webhook's own max_in_flight

return {
    title    => 'drain, persist, sign, deliver over loopback, record: deliveries per second',
    against  => 'Node: ioredis + undici + HMAC without a store (peers/node_deliver)',
    ratio    => 'ours/theirs',
    at_least => 1.5,
    lines    => [
        [rate     => 'deliveries per second'],
        [cpu_us   => 'µs of the process per delivery'],
        [redis_us => 'µs of Redis per event'],
    ],
    run => sub ($t, $options, $say) {
        my $why = why_no_fastify();    # the packages want the same Node
        return { skipped => $why } if defined $why;
        my $redis    = Headgate::Bench::Redis->start($t);
        my $receiver = Headgate::Bench::Drain::start_receiver($t);
        my (undef, $payloads_file) = write_events($t);
        my $drain = Headgate::Bench::Drain->prepare($t, redis => $redis, receiver => $receiver, payloads_file => $payloads_file);
        my $ours   = sub { $drain->run($options->{events}) };
        my $theirs = sub { deliver_in_node($t, $drain, events => $options->{events}, in_flight => $IN_FLIGHT) };
        my ($our_results, $their_results) = alternate($options->{pairs}, $say, $ours, $theirs);
        return {
            ours       => $our_results,
            theirs     => $their_results,
            conditions => [
                "$options->{events} events of 1 KiB in 8 streams beforehand, one webhook, $IN_FLIGHT requests in flight, keep-alive",
                'ours: SQLite WAL, events synced when committed (FULL), results within 100 ms; each event, delivery and attempt stored; theirs: no store, no retries',
                $redis->describe,
                'both from the first XREADGROUP that Redis answered; ours until the store has the last success, theirs until the streams are empty',
            ],
        };
    },
};
