# POST /events with everything that the edge does for it, against nginx that only reads the body.
use v5.36;
use utf8;

use Headgate::Bench::Events qw(write_events);
use Headgate::Bench::Http qw(credentials edge_nginx floor_nginx load_http $CONNECTIONS);
use Headgate::Bench::Measure qw(alternate);
use Headgate::Bench::Redis;

return {
    title    => 'POST /events: JWT HS256 (seen before), plan limit (exact, two windows), JSON checked, XADD acknowledged',
    against  => 'the same nginx reading the body and answering the same 201',
    ratio    => 'theirs/ours',
    at_least => 0.68,
    lines    => [
        [cpu_us   => 'µs of the worker per request'],
        [redis_us => 'µs of Redis per request'],
        [rate     => 'requests per second'],
        [p50_ms   => 'latency p50, ms'],
        [p99_ms   => 'latency p99, ms'],
    ],
    run => sub ($t, $options, $say) {
        my $redis         = Headgate::Bench::Redis->start($t);
        my $credentials   = credentials($t, $redis);
        my ($bodies_file) = write_events($t);
        my $edge = edge_nginx($t, $redis, $credentials, location => <<~'CONF');
            headgate_auth jwt api_key;
            headgate_require_scope events:write;
            headgate_limit plan;
            headgate_limit_mode exact;
            headgate_publish event;
            CONF
        my $token  = $t->read_file($credentials->{token_file}) =~ s/\n//r;
        my ($body) = split /\n/, $t->read_file($bodies_file);
        my @headers = ('Content-Type', 'application/json', 'Authorization', "Bearer $token");
        my $answer  = $edge->request('POST', '/events', headers => \@headers, body => $body);
        $t->die_with_logs('the edge answered ' . $answer->status . ': ' . $answer->body) if $answer->status != 201;
        my $floor = floor_nginx($t, status => 201, body => $answer->body);
        my %load  = (bodies_file => $bodies_file, token_file => $credentials->{token_file});

        my $ours = sub ($seconds = $options->{seconds}) {
            $redis->empty_streams;
            my $result = load_http($t, nginx => $edge, redis => $redis, seconds => $seconds, %load);
            # Whatever wrk has counted is in Redis; up to one more of each connection was under way.
            my $stored = $redis->event_count;
            $t->die_with_logs("$stored entries for $result->{requests} answers")
                if $stored < $result->{requests} || $stored > $result->{requests} + $CONNECTIONS;
            $redis->empty_streams;
            return $result;
        };
        my $theirs = sub ($seconds = $options->{seconds}) {
            return load_http($t, nginx => $floor, seconds => $seconds, %load);
        };

        $say->('warming up');
        $_->(1) for $ours, $theirs;
        my ($our_results, $their_results) = alternate($options->{pairs}, $say, $ours, $theirs);
        return {
            ours       => $our_results,
            theirs     => $their_results,
            conditions => [
                "wrk, 1 thread, $CONNECTIONS connections, 1 KiB events, $options->{seconds} s a run; one nginx worker; no sidecar",
                $redis->describe . ' (TCP); streams emptied and file rewritten between runs',
            ],
        };
    },
};
