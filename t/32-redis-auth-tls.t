# The ways into a Redis: passwords, ACL users (with the very rule that docs/operations.md gives), database numbers,
# unix sockets, TLS. And what `nginx -t` refuses.
use v5.36;
use Test::More;

use Digest::SHA qw(sha256_hex);

use Headgate::Authority;
use Headgate::Edge;
use Headgate::Test;

my $t    = Headgate::Test->new;
my $PASS = 'p4ss-' . 'x' x 20;

# -- what cannot work -------------------------------------------------------------------------------
my $plain = $t->write_file('secret',  "$PASS \n\n");
my $blank = $t->write_file('blank',   " \n");
my $open  = $t->write_file('open', "$PASS\n", 0644);
my $nginx = $t->nginx(no_start => 1);
sub refused ($directives, $pattern) {
    $nginx->configure(http => "headgate_zone edge:1m;\n$directives", server => 'location = /s { headgate_status; }');
    my ($code, $said) = $nginx->test_configuration;
    ok $code != 0 && $said =~ $pattern, "nginx -t refuses: $directives" or diag $said;
}
refused("headgate_redis $_->[0];", $_->[1]) for (
    ['127.0.0.1 db=1 cluster=on', qr/a cluster has no "db"/],
    ['127.0.0.1 sentinel=m cluster=on', qr/exclude each other/],
    ['unix:/tmp/r.sock cluster=on', qr/not by a unix socket/],
    ['127.0.0.1 username=edge', qr/"username" needs "password_file"/],
    ["127.0.0.1 sentinel=m sentinel_username=edge", qr/"sentinel_username" needs "sentinel_password_file"/],
    ["127.0.0.1 sentinel_password_file=$plain", qr/"sentinel_password_file" needs "sentinel"/],
    ["127.0.0.1 sentinel=m sentinel_password_file=$open", qr/open to others/],
    ['127.0.0.1 sentinel=m sentinel_username=', qr/"sentinel_username=" is empty/],
    ['127.0.0.1 tls_ca=/x', qr/need "tls=on"/],
    ['127.0.0.1 tls_name=x', qr/need "tls=on"/],
    ['unix:/tmp/r.sock tls=on', qr/not for a unix socket/],
    ['127.0.0.1 tls=maybe', qr/on or off/],
    ["127.0.0.1 tls=on tls_ca=$plain", qr/no certificates can be read/],
    ["127.0.0.1 password_file=$open", qr/open to others/],
    ["127.0.0.1 password_file=$blank", qr/is empty/],
    ['127.0.0.1 password_file=/nonexistent', qr/cannot be read/],
    ['127.0.0.1 connections=0', qr/1 to 64/],
    ['127.0.0.1 connections=65', qr/1 to 64/],
    ['127.0.0.1 db=-1', qr/invalid number/],
    ['127.0.0.1 timeout=0', qr/invalid time/],
    ['127.0.0.1 pool=4', qr/unknown parameter "pool=4"/],
    ['name=x', qr/has no address/],
    ['no-such-name.invalid', qr/host not found in "no-such-name.invalid:6379" of "headgate_redis" in .*nginx\.conf:\d+/],
    [join(' ', map { "127.0.0.1:$_" } 1000 .. 1032), qr/more than 32 addresses/],
);
refused("headgate_redis 127.0.0.1;\nheadgate_redis 127.0.0.2;", qr/is duplicate/);
refused("headgate_redis 127.0.0.1;\nheadgate_redis_use limits other;", qr/no "headgate_redis" has name=other in .*nginx\.conf:\d+/);
refused("headgate_redis 127.0.0.1;\nheadgate_redis_use cache default;", qr/events, limits or keys/);
refused("headgate_redis 127.0.0.1 name=a;\nheadgate_redis 127.0.0.1 name=b;\nheadgate_redis_use events a;", qr/does not name one for each/);
sub accepted ($directives, $name) {
    $nginx->configure(http => "headgate_zone edge:1m;\n$directives", server => 'location = /s { headgate_status; }');
    my ($code, $said) = $nginx->test_configuration;
    is $code, 0, "nginx -t accepts $name" or diag $said;
}
accepted("resolver 127.0.0.1:1;\nheadgate_redis no-such-name.invalid;", 'a name that only the resolver may know');
accepted('headgate_redis [::1]:7000 10.0.0.1 redis=x:1 name=only;' =~ s/ redis=x:1//r, 'the only Redis under another name');

# -- one server, every way in -----------------------------------------------------------------------
my ($rule) = $t->read_file($t->root . '/docs/operations.md') =~ /^user edge (on [^\n]+)$/m or die 'no ACL rule in operations.md';
my $ca = Headgate::Authority->start($t);
my $tls_port = $t->port;
my $redis    = $t->redis(
    password => $PASS, appendfsync => 'no',
    extra => $ca->redis_lines($tls_port, qw(DNS:redis.test DNS:localhost IP:127.0.0.1)) . "user edge " . ($rule =~ s/>\S+/>$PASS/r) . "\n",
);
my $number = 0;
sub edge (%args) {
    return Headgate::Edge->start($t, redis => $redis, name => 'nginx' . ++$number, limit => 'headgate_limit plan; headgate_limit_mode exact;', %args);
}
my $port = $redis->port;

sub works ($edge, $name) {
    my $key = $edge->add_key;
    is $edge->publish(key => $key)->status, 201, "$name: an event is published";
    $redis->command('SCRIPT', 'FLUSH');
    my $answer = $edge->publish(key => $key);
    is $answer->status, 201, "$name: and with the scripts flushed" or diag $answer->body;
    return $answer->json->{id};
}
sub stop ($edge) { $edge->nginx->process->stop }

# A password that ends in white space which is not part of it.
my $edge = edge(redis_options => "password_file=$plain connections=3");
works($edge, 'a password');
stop($edge);

# An ACL user with no more than operations.md gives it. The list of several addresses makes the edge ask ROLE.
$edge = edge(redis_options => "username=edge password_file=$plain", redis_address => "127.0.0.1:$port 127.0.0.1:$tls_port");
works($edge, 'the ACL user of operations.md');
unlike $edge->nginx->error_text, qr/NOPERM/, 'and lacks no command';
stop($edge);

# A unix socket, a database of its own.
$redis->command('SELECT', 5);
$edge = edge(redis_options => "password_file=$plain db=5", redis_address => 'unix:' . $redis->path);
my $id = works($edge, 'a unix socket and db=5');
ok $redis->event($id), 'the event is in database 5';
$redis->command('SELECT', 0);
ok !$redis->event($id), 'and not in database 0';
stop($edge);

# Refused: a clear line, the edge keeps trying, and nobody reads the password.
for my $case (
    ['a wrong password', 'password_file=' . $t->write_file('wrong', "not-$PASS\n"), qr/Redis refused the password: WRONGPASS/],
    ['no password', '', qr/Redis refused the greeting: NOAUTH/],
    ['an unknown user', "username=nobody password_file=$plain", qr/Redis refused the password: WRONGPASS/],
) {
    my ($name, $options, $pattern) = @$case;
    $edge = edge(redis_options => $options, wait => 0, projected => 0);
    $t->wait_for("$name to be refused", sub { $edge->nginx->error_text =~ $pattern });
    is $edge->publish(token => $edge->token(claims => { plan => 'unlimited' }))->status, 503, "$name: 503";
    $t->wait_for('another attempt', sub { 2 <= (() = $edge->nginx->error_text =~ /$pattern/g) });
    unlike $edge->nginx->error_text, qr/$PASS/, "$name: the log does not show it";
    stop($edge);
}

# -- TLS --------------------------------------------------------------------------------------------
my $by_tls = "password_file=$plain tls=on tls_ca=@{[ $ca->pem ]}";
$edge = edge(redis_options => $by_tls, redis_address => "127.0.0.1:$tls_port", http => 'client_body_buffer_size 16k;');
works($edge, 'TLS to an address in the certificate');
# Bodies in memory, in several buffers, in a file; each larger than the one before.
my $before = $edge->status->{published};
my $connects = $edge->status->{redis}{connects};
my $bytes  = 0;
for my $size (100, 5_000, 16_000, 70_000, 900_000) {
    my $fill    = join '', map { chr(97 + rand 26) } 1 .. $size;
    my $payload = qq({"fill":"$fill"});
    my $answer  = $edge->publish(token => $edge->token(claims => { plan => 'unlimited' }), body => qq({"type":"tls.tested","source":"t","payload":$payload}));
    is $answer->status, 201, "TLS: an event of $size bytes";
    my $stored = $redis->event($answer->json->{id} // '') // {};
    is sha256_hex($stored->{payload} // ''), sha256_hex($payload), "TLS: $size bytes are stored as they were sent";
    $bytes += length $payload if $size > 16_000;
}
my $copied = $edge->status->{published}{payload_bytes_copied} - $before->{payload_bytes_copied};
ok $copied > 0 && $copied <= $bytes, 'TLS: what came through a file counts as copied' or diag "$copied of $bytes";
is $edge->status->{redis}{connects}, $connects, 'TLS: no connection was lost over it';
stop($edge);

$edge = edge(redis_options => "$by_tls tls_name=redis.test connections=2", redis_address => "127.0.0.1:$tls_port");
works($edge, 'TLS by name');
stop($edge);

# -- a session is resumed ---------------------------------------------------------------------------
# What Redis gave with the first connection spares both sides a signature when the connection is made again.
for my $version ('TLSv1.3', 'TLSv1.2') {
    $redis->command('CONFIG', 'SET', 'tls-protocols', $version);
    $edge = edge(redis_options => $by_tls, redis_address => "127.0.0.1:$tls_port");
    my $resumed = sub { scalar(() = $edge->nginx->error_text =~ /is ready, its TLS session resumed/g) };
    is $resumed->(), 0, "$version: no session at first";
    for my $again (1, 2) {
        my $before = $resumed->();
        $redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
        # One connection is for events, another for control messages.
        $t->wait_for("$version: resumed sessions", sub { $resumed->() >= $before + 2 });
        is $edge->publish(token => $edge->token(claims => { plan => 'unlimited' }))->status, 201, "$version: a connection with a resumed session";
    }
    # A Redis that was started anew knows nothing of it.
    my $whole = () = $edge->nginx->error_text =~ /is ready(?!,)/g;
    $redis->stop;
    $redis->restart;
    $redis->command('CONFIG', 'SET', 'tls-protocols', $version);
    $t->wait_for("$version: a whole handshake", sub { $whole < (() = $edge->nginx->error_text =~ /is ready(?!,)/g) });
    $t->wait_for("$version: the next event", sub { $edge->publish(token => $edge->token(claims => { plan => 'unlimited' }))->status == 201 });
    stop($edge);
}
$redis->command('CONFIG', 'SET', 'tls-protocols', '');
for my $case (
    ['a name that is not in the certificate', "$by_tls tls_name=other.test", qr/certificate is refused: hostname mismatch/i],
    ['another authority', "password_file=$plain tls=on tls_ca=@{[ Headgate::Authority->start($t, 'other')->pem ]}", qr{certificate is refused: self-signed certificate in certificate chain}],
    ['the system\'s authorities', "password_file=$plain tls=on", qr/certificate is refused: /i],
) {
    my ($name, $options, $pattern) = @$case;
    $edge = edge(redis_options => $options, redis_address => "127.0.0.1:$tls_port", wait => 0, projected => 0);
    $t->wait_for("$name to be refused", sub { $edge->nginx->error_text =~ $pattern });
    is $edge->publish(token => $edge->token(claims => { plan => 'unlimited' }))->status, 503, "TLS with $name: refused";
    stop($edge);
}
# TLS spoken to a server that does not, and the other way round.
for my $case (["127.0.0.1:$port", $by_tls], ["127.0.0.1:$tls_port", "password_file=$plain"]) {
    $edge = edge(redis_options => "$case->[1] connect_timeout=300ms timeout=300ms", redis_address => $case->[0], wait => 0, projected => 0);
    is $edge->publish(token => $edge->token(claims => { plan => 'unlimited' }))->status, 503, "one side speaks TLS and the other does not: 503 ($case->[1])" =~ s{tls_ca=\S+}{}r;
    stop($edge);
}

$t->done;
