# The peers of the publishing rows. Each has `port`, `worker_pids` (what is measured) and `request`, as
# Headgate::Nginx does, and answers POST /events.
package Headgate::Bench::Peers;
use v5.36;

use Exporter qw(import);

use Headgate::Bench::Http qw(nginx_conf);
use Headgate::Bench::Measure qw(cpu_ns);
use Headgate::Credentials qw(json);

our @EXPORT_OK = qw(deliver_in_node fastify floor_nginx lua_nginx why_no_fastify);

# Debian's packages libnginx-mod-http-ndk and libnginx-mod-http-lua.
my @LUA_MODULES = map { "/usr/lib/nginx/modules/$_.so" } qw(ndk_http_module ngx_http_lua_module);

# nginx with only the peer module, which reads the body and answers `status` and `body`.
sub floor_nginx ($t, %args) {
    my $answer = $args{body} // '';
    die "an answer with a quote in it\n" if $answer =~ /'/;
    $answer = "'$answer'" if length $answer;
    return $t->nginx(
        name => 'floor', module => 0, http2 => 0, main => 'load_module ' . $t->peer_module('read_and_answer') . ';',
        http   => nginx_conf(%args),
        server => "location = /events { read_and_answer $args{status} $answer; }",
    );
}

# nginx with lua-nginx-module and peers/lua. Options: mode (of peers/lua: `plain`, `script`, `pipeline`), windows (how many of a
# plan's, all unless said), body_buffer.
sub lua_nginx ($t, $redis, $credentials, %args) {
    -e $_ or die "$_: not there; scripts/install_deps.sh bench installs it\n" for @LUA_MODULES;
    my $directory = $t->bench_file('peers/lua');
    my $plans     = join ', ', map {
        my @windows = $credentials->{plans}{$_}->@*;
        splice @windows, $args{windows} if $args{windows};
        "$_ = { " . join(', ', map { "{ $_->[0], $_->[1] }" } @windows) . ' }';
    } sort keys $credentials->{plans}->%*;
    return $t->nginx(
        name => 'lua', module => 0, http2 => 0, main => join('', map { "load_module $_;" } @LUA_MODULES) . 'pcre_jit on;',
        http => nginx_conf(%args) . <<~"CONF",
            lua_package_path "$directory/?.lua;;";
            init_by_lua_block {
                require("publish").setup {
                    redis_port = @{[ $redis->port ]}, secret = "$credentials->{secret}", mode = "$args{mode}", plans = { $plans },
                }
            }
            init_worker_by_lua_block { require("publish").init_worker() }
            CONF
        server => 'location = /events { content_by_lua_block { require("publish").handle() } }',
    );
}

# Fastify 5 needs a newer Node than Debian 12 has: why it cannot run here, or undef.
sub why_no_fastify () {
    my ($version) = (`node --version 2>/dev/null` // '') =~ /^v((\d+)\S*)/ or return 'there is no node';
    return $2 < 20 ? "Fastify 5 needs Node 20, this is $version" : undef;
}

# Node with peers/fastify: one process.
sub fastify ($t, $redis, $credentials, %args) {
    my $directory = $t->bench_file('peers/fastify');
    -d "$directory/node_modules" or die "$directory/node_modules: not there; scripts/install_deps.sh bench installs it\n";
    my $self     = bless { port => $t->port }, 'Headgate::Bench::Peers::Node';
    my $settings = json({ port => $self->{port}, redis_port => $redis->port, $credentials->%{qw(secret plans)} });
    my @command  = ('node', "$directory/server.mjs", $t->write_file('fastify.json', $settings));
    $self->{process} = $t->start(name => 'fastify', command => \@command, env => { NODE_ENV => 'production' });
    $t->wait_for_port($self->{port}, $self->{process});
    $t->on_stop(sub { Headgate::Http->close_all });
    return $self;
}

# One drain of `events` events with delivery by peers/node_deliver, `in_flight` at a time; the ground is Headgate::Bench::Drain's.
sub deliver_in_node ($t, $drain, %args) {
    my $directory = $t->bench_file('peers/node_deliver');
    -d "$directory/node_modules" or die "$directory/node_modules: not there; scripts/install_deps.sh bench installs it\n";
    my $redis  = $drain->redis;
    my $events = $args{events};
    $drain->fill($drain->type, $events);
    my $settings = json({ redis_port => $redis->port, streams => [$drain->streams], url => $drain->hook, secret => $drain->secret, in_flight => $args{in_flight} });
    my $before   = $redis->cpu_ns_total;
    my $received = $drain->received;
    my @command  = ('node', "$directory/deliver.mjs", $t->write_file('node-deliver.json', $settings));
    my $process  = $t->start(name => 'node_deliver', command => \@command, env => { NODE_ENV => 'production' });
    my $begun    = $drain->await($process, 'the first read', 0.0005, sub { $redis->calls('xreadgroup') });
    $drain->await($process, "$events requests at the receiver", 0.02, sub { $drain->received - $received >= $events });
    my $ended = $drain->await($process, 'empty streams', 0.002, sub { $redis->event_count == 0 });
    my @cpu   = (cpu_ns($process->pid), $redis->cpu_ns_total - $before);
    $process->stop;
    $t->forget($process);
    return { rate => $events / ($ended - $begun), cpu_us => $cpu[0] / 1000 / $events, redis_us => $cpu[1] / 1000 / $events };
}

package Headgate::Bench::Peers::Node {
    use Headgate::Http;

    sub port ($self)        { $self->{port} }
    sub worker_pids ($self) { $self->{process}->pid }

    sub request ($self, $method, $target, %args) {
        my $http     = Headgate::Http->connect(port => $self->{port});
        my $response = $http->request($method, $target, %args);
        $http->close;
        return $response;
    }
}

1;
