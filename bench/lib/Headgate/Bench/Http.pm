# The HTTP rows' ground: nginx with one worker for each side, the same but for the location that is
# compared, and wrk in front. Input: what the location says. Output: processor time of the worker (and
# of Redis) per request, throughput, latency.
package Headgate::Bench::Http;
use v5.36;

use Exporter qw(import);

use Headgate::Bench::Measure qw(cpu_ns);
use Headgate::Credentials qw(jwt pepper_fingerprint random_hex);

our @EXPORT_OK = qw(credentials edge_nginx floor_nginx load_http $CONNECTIONS);

our $CONNECTIONS = 64;

# What the edge needs to know its callers, as the sidecar makes and projects it. Returns a hash: files
# for the directives, and the path of a file with a token of plan `bench`.
sub credentials ($t, $redis) {
    my ($pepper, $secret) = (random_hex(32), random_hex(32));
    my %meta = (contract => 1, shards => 8, pepper_fp => pepper_fingerprint($pepper), projected => 1);
    $redis->command('HSET', 'headgate:meta', %meta);
    my $token = jwt($secret, claims => { plan => 'bench', key => 'bench-key', exp => time + 86_400 });
    return {
        pepper_file => $t->write_file('credentials/pepper',    "$pepper\n"),
        secret_file => $t->write_file('credentials/token.key', "$secret\n"),
        token_file  => $t->write_file('credentials/token',     "$token\n"),
    };
}

# What both sides have in common.
my $COMMON = <<'CONF';
    access_log off;
    keepalive_requests 1000000000;
    client_body_buffer_size 16k;
    client_max_body_size 8m;
CONF

# nginx with the module: `location` is the body of the measured location /events; http holds more of
# the http level. The plan `bench` is too large to ever refuse.
sub edge_nginx ($t, $redis, $credentials, %args) {
    my $edge = $t->nginx(
        name => 'edge', http2 => 0,
        http => <<~"CONF",
            $COMMON
            headgate_zone edge:16m;
            headgate_redis 127.0.0.1:@{[ $redis->port ]};
            headgate_api_key_pepper_file $credentials->{pepper_file};
            headgate_jwt_key_file $credentials->{secret_file} alg=HS256;
            headgate_plan bench rate=1000000000r/m rate=1000000000r/h;
            @{[ $args{http} // '' ]}
            CONF
        server => <<~"CONF",
            location = /events { $args{location} }
            location = /status { headgate_status; }
            CONF
    );
    $t->wait_for('the edge to be ready', sub { eval { $edge->get('/status')->json->{redis}{state} eq 'ready' } });
    return $edge;
}

# The same nginx with only the peer module, which reads the body and answers `status` and `body`.
sub floor_nginx ($t, %args) {
    my $answer = $args{body} // '';
    die "an answer with a quote in it\n" if $answer =~ /'/;
    $answer = "'$answer'" if length $answer;
    return $t->nginx(
        name => 'floor', module => 0, http2 => 0, main => 'load_module ' . $t->peer_module('read_and_answer') . ';',
        http   => $COMMON,
        server => "location = /events { read_and_answer $args{status} $answer; }",
    );
}

# One run of wrk: one thread, so many connections, for `seconds`. Dies unless every request was answered
# with less than 400. Options: nginx, seconds, bodies_file, token_file; optional redis, path.
sub load_http ($t, %args) {
    my @workers = $args{nginx}->worker_pids;
    die 'one worker is measured, there are ' . @workers . "\n" if @workers != 1;
    my $redis  = $args{redis};
    my @before = (cpu_ns(@workers), $redis ? $redis->cpu_ns_total : 0);
    my $said   = $t->json_of(
        'wrk', '-t1', "-c$CONNECTIONS", "-d$args{seconds}s", '-s', $t->bench_file('wrk/post.lua'),
        "http://127.0.0.1:" . $args{nginx}->port . ($args{path} // '/events'), '--', $args{bodies_file}, $args{token_file},
    );
    my @after = (cpu_ns(@workers), $redis ? $redis->cpu_ns_total : 0);
    $t->die_with_logs("wrk: $said->{lost} lost, $said->{refused} refused of $said->{requests}")
        if $said->{lost} || $said->{refused} || !$said->{requests};
    return {
        requests => $said->{requests},
        cpu_us   => ($after[0] - $before[0]) / 1000 / $said->{requests},
        rate     => $said->{requests} / $said->{seconds},
        p50_ms   => $said->{p50_ms},
        p99_ms   => $said->{p99_ms},
        ($redis ? (redis_us => ($after[1] - $before[1]) / 1000 / $said->{requests}) : ()),
    };
}

1;
