# How long an event takes from the publisher through everything to the receiver, at a steady rate.
use v5.36;
use utf8;

use Headgate::Bench::Credentials qw(credentials);
use Headgate::Bench::Redis;
use Headgate::Credentials qw(jwt);

my ($RATE, $BYTES) = (1000, 1024);
my ($P50_MS, $P99_MS) = (5, 25);
my @SHOWN = qw(p50 p99 p999 max);

return {
    title    => "publish to receipt at $RATE events/s, AOF always",
    against  => "the goal: p50 of $P50_MS ms, p99 of $P99_MS ms",
    ratio    => 'theirs/ours',
    at_least => 1,
    lines    => [
        [share => 'the greater part of the goal that is used'],
        (map { ["received_${_}_ms" => "due time to receipt, $_, ms"] } @SHOWN),
        (map { ["accepted_${_}_ms" => "due time to 201, $_, ms"] } @SHOWN),
    ],
    run => sub ($t, $options, $say) {
        my $redis   = Headgate::Bench::Redis->start($t, appendfsync => 'always');
        my $sidecar = $t->sidecar(redis => $redis);
        my $port    = $t->port;
        $sidecar->run_json('webhook', 'create', '--org', $sidecar->org, '--url', "http://127.0.0.1:$port/hook", '--events', 'order.*');
        $sidecar->serve->wait_until_healthy;
        my $edge  = $sidecar->front(workers => 1, http => 'keepalive_requests 1000000000;');    # the publisher does not reconnect
        my $token = jwt($t->read_file($sidecar->{dir} . '/token.key') =~ s/\s+\z//r,
            claims => { org => $sidecar->org, key => $sidecar->{key_id}, exp => time + 86_400 });
        my $token_file = $t->write_file('token', "$token\n");
        my $seconds    = $options->{seconds} > 1 ? $options->{seconds} : 2;
        my @ours;
        for my $pair (1 .. $options->{pairs}) {
            $say->("run $pair of $options->{pairs}");
            my $said = $t->json_of($t->program('publish_and_receive'), $edge->port, $token_file, $port, $RATE, $seconds, $BYTES);
            $t->die_with_logs("$said->{received} of $said->{sent} received, $said->{refused} refused")
                if $said->{received} != $said->{sent} || $said->{accepted} != $said->{sent};
            my ($p50, $p99) = ($said->{received_p50_ms} / $P50_MS, $said->{received_p99_ms} / $P99_MS);
            push @ours, { %$said, share => $p50 > $p99 ? $p50 : $p99 };
        }
        return {
            ours       => \@ours,
            theirs     => [map { { share => 1, received_p50_ms => $P50_MS, received_p99_ms => $P99_MS } } @ours],
            conditions => [
                "$seconds s each, events of $BYTES bytes, JWT HS256, one nginx worker, one webhook; publisher and receiver are one program of one thread",
                'from the time at which an event was due to be sent (a stall delays those behind it, and counts) to the last byte of its delivery;',
                'the first second is not counted; SQLite WAL, events synced when committed (FULL), results within 100 ms',
                $redis->describe,
            ],
        };
    },
};
