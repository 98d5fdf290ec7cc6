# The whole way through the sidecar, against a libcurl loop that only posts.
use v5.36;
use utf8;

use Headgate::Bench::Drain;
use Headgate::Bench::Events qw(write_events);
use Headgate::Bench::Measure qw(alternate);
use Headgate::Bench::Redis;

my $IN_FLIGHT = 16;    # a webhook's own max_in_flight

return {
    title    => 'drain, persist, sign, deliver over loopback, record: deliveries per second',
    against  => 'a plain libcurl multi loop posting the same bodies',
    ratio    => 'ours/theirs',
    at_least => 0.5,
    lines    => [
        [rate       => 'deliveries per second'],
        [start_rate => 'the same from the start of the process'],
        [start_ms   => 'ms from the start to the first read'],
        [cpu_us     => 'µs of the process per delivery'],
        [redis_us   => 'µs of Redis per event'],
    ],
    run => sub ($t, $options, $say) {
        my $redis    = Headgate::Bench::Redis->start($t);
        my $receiver = Headgate::Bench::Drain::start_receiver($t);
        my (undef, $payloads_file) = write_events($t);
        my $drain = Headgate::Bench::Drain->prepare($t, redis => $redis, receiver => $receiver, payloads_file => $payloads_file);
        $say->('recording what the sidecar sends');
        my $bodies_file = $drain->record_bodies(32);

        my $ours   = sub { $drain->run($options->{events}) };
        my $theirs = sub {
            my $cpu_before = (times)[2] + (times)[3];
            my @post = ($t->program('curl_multi_post'), $drain->hook, $bodies_file, $options->{events}, $IN_FLIGHT);
            my $said = $t->json_of(@post);
            $t->die_with_logs("$said->{failed} posts failed") if $said->{failed};
            my $cpu = (times)[2] + (times)[3] - $cpu_before;
            return { rate => $said->{posted} / $said->{seconds}, cpu_us => $cpu * 1e6 / $said->{posted} };
        };
        my ($our_results, $their_results) = alternate($options->{pairs}, $say, $ours, $theirs);
        return {
            ours       => $our_results,
            theirs     => $their_results,
            conditions => [
                "$options->{events} events of 1 KiB in 8 streams beforehand, one matching webhook, $IN_FLIGHT requests in flight, keep-alive",
                'SQLite WAL, events synced when committed (FULL), results within 100 ms; log level warn; receiver: nginx with one worker that reads each body and answers 204',
                $redis->describe,
                'ours: from the first XREADGROUP that Redis answered until the store has the last success recorded;',
                'theirs: from before the first request until after the last answer',
            ],
        };
    },
};
