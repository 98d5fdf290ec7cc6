# The HTTP rows' ground: nginx with one worker for each side, the same but for the location that is
# compared, and wrk in front. Input: what the location says. Output: processor time of the worker (and
# of Redis) per request, throughput, latency.
package Headgate::Bench::Http;
use v5.36;
use utf8;

use Exporter qw(import);

use Headgate::Bench::Measure qw(cpu_ns);

our @EXPORT_OK = qw(edge_nginx get_load lines_of_http load_http nginx_conf post_load wait_until_ready $CONNECTIONS);

our $CONNECTIONS = 64;

# What is printed of each side of a row, the compared figure first.
sub lines_of_http ($process = 'worker', @more) {
    return [
        [cpu_us => "µs of the $process per request"],
        @more,
        [rate   => 'requests per second'],
        [p50_ms => 'latency p50, ms'],
        [p99_ms => 'latency p99, ms'],
    ];
}

# What all sides have in common on the http level.
sub nginx_conf (%args) {
    return <<~"CONF";
        access_log off;
        keepalive_requests 1000000000;
        client_body_buffer_size @{[ $args{body_buffer} // '16k' ]};
        client_max_body_size 8m;
        CONF
}

# nginx with the module, knowing the callers of Headgate::Bench::Credentials. Options: locations (texts
# of the server level), http (more of the http level), zone (16m), body_buffer (16k), name.
sub edge_nginx ($t, $redis, $credentials, %args) {
    my $plans = join '', map {
        my $name = $_;
        "headgate_plan $name " . join(' ', map { "rate=$_->[0]r/" . ($_->[1] == 60 ? 'm' : 'h') } $credentials->{plans}{$name}->@*) . ';';
    } sort keys $credentials->{plans}->%*;
    my $edge = $t->nginx(
        name => $args{name} // 'edge', http2 => 0,
        http => nginx_conf(%args) . <<~"CONF",
            headgate_zone edge:@{[ $args{zone} // '16m' ]};
            headgate_redis 127.0.0.1:@{[ $redis->port ]};
            headgate_api_key_pepper_file $credentials->{pepper_file};
            headgate_jwt_key_file $credentials->{secret_file} alg=HS256;
            $plans
            @{[ $args{http} // '' ]}
            CONF
        server => "$args{locations} location = /status { headgate_status; }",
        $args{no_start} ? (no_start => 1) : (),
    );
    wait_until_ready($t, $edge) if !$args{no_start};
    return $edge;
}

sub wait_until_ready ($t, $edge) {
    $t->wait_for('the edge to be ready', sub { eval { $edge->get('/status')->json->{redis}{state} eq 'ready' } });
}

# What wrk is told: events of a file with one token, or GETs with the credentials of a file in turn.
sub post_load ($bodies_file, $token_file) { ['post.lua', $bodies_file, $token_file] }
sub get_load ($credentials_file, $kind = 'token', @once) { ['get.lua', $credentials_file, $kind, @once] }

# One run of wrk: one thread, so many connections, for `seconds`. Dies unless every request was answered
# with less than 400. Options: server (has `port` and `worker_pids`), load, seconds, path; optional redis.
sub load_http ($t, %args) {
    # The master listens before it forks.
    my @workers;
    $t->wait_for('one worker', sub { @workers = $args{server}->worker_pids; @workers == 1 });
    my $redis  = $args{redis};
    my ($script, @words) = $args{load}->@*;
    my $profile = $ENV{PERF} ? start_profile($t, %args) : undef;
    my @before  = (cpu_ns(@workers), $redis ? $redis->cpu_ns_total : 0);
    my $said   = $t->json_of(
        'wrk', '-t1', "-c$CONNECTIONS", "-d$args{seconds}s", '-s', $t->bench_file("wrk/$script"),
        'http://127.0.0.1:' . $args{server}->port . $args{path}, '--', @words,
    );
    my @after = (cpu_ns(@workers), $redis ? $redis->cpu_ns_total : 0);
    if ($profile) {
        $profile->stop;
        $t->forget($profile);
    }
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

# PERF=1: perf records the measured process during the run, into build/bench/perf-<server>-<path>.data.
sub start_profile ($t, %args) {
    my $side = ($args{server}{name} // 'node') . ($args{path} =~ tr{/}{-}r);
    my @perf = ('perf', 'record', '-q', '-F', 999, '-g', '-o', "$Headgate::Bench::World::DIRECTORY/perf-$side.data");
    return $t->start(name => "perf $side", command => [@perf, '-p', $args{server}->worker_pids], stop_signal => 'INT', log => $t->path('perf.log'));
}

1;
