# The sidecar's ways into Redis, with the very ACL file that `headgate init` writes: TLS with a certificate of ours, the users with no more
# rights than they need, a unix socket, a database of its own. And what check-config says when one of them is wrong.
use v5.36;
use Test::More;

use Headgate::Redis;
use Headgate::Sidecar;
use Headgate::Test;

my $t    = Headgate::Test->new;
my $port = $t->port;
my $tls  = $t->dir('tls');
sub openssl (@words) {
    my $said = `cd $tls && openssl @words 2>&1`;
    die "openssl @words: $said" if $?;
}
my $new = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';
openssl("req -x509 $new -keyout $_.key -out $_.pem -subj /CN=$_ -days 2") for qw(ca other);
$t->write_file('tls/san', "subjectAltName=DNS:redis.test\n");
for my $name (qw(redis client)) {
    openssl("req $new -keyout $name.key -out $name.csr -subj /CN=$name");
    openssl("x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $name.pem -days 2 -extfile san");
}

my $tls_port = $t->port;
my $sidecar  = $t->sidecar(redis => bless({ port => $port }, 'Headgate::Redis'));
my $acl      = $t->read_file($t->path('headgate/users.acl'));
my %password = $acl =~ /^user (edge|sidecar) on >(\S+)/mg;
$t->write_file("headgate/$_.password", "$password{$_}\n") for qw(edge sidecar);
$t->write_file('redis.acl', $acl . "user admin on >admin ~* &* +\@all\n");
my $redis = $t->redis(
    port => $port, user => 'admin', password => 'admin', extra => "aclfile " . $t->path('redis.acl') . "\n"
        . "tls-port $tls_port\ntls-cert-file $tls/redis.pem\ntls-key-file $tls/redis.key\ntls-ca-cert-file $tls/ca.pem\ntls-auth-clients yes\n",
);
$sidecar->{redis} = $redis;

my $toml = $t->read_file($sidecar->config);
my $user = qq(username = "sidecar"\npassword_file = "sidecar.password"\n);
sub configure ($lines) { $t->write_file('headgate/headgate.toml', $toml =~ s/^url = .*\n/$lines/mr) }
my %tls = (tls_ca_file => "$tls/ca.pem", tls_cert_file => "$tls/client.pem", tls_key_file => "$tls/client.key", tls_server_name => 'redis.test');
sub by_tls (%other) {
    my %all = (%tls, %other);
    return qq(url = "rediss://127.0.0.1:$tls_port"\n$user) . join '', map { defined $all{$_} ? qq($_ = "$all{$_}"\n) : '' } sort keys %all;
}

# -- what check-config says ---------------------------------------------------------------------------
sub refused ($name, $lines, $pattern) {
    configure($lines);
    my ($code, $said) = $sidecar->run('check-config');
    ok $code != 0 && $said =~ $pattern, "check-config: $name" or diag $said;
    unlike $said, qr/$password{sidecar}/, '... and shows no password';
}
refused('another authority', by_tls(tls_ca_file => "$tls/other.pem"), qr/its certificate is refused/);
refused("the system's authorities", by_tls(tls_ca_file => undef), qr/its certificate is refused/);
refused('a name that is not in the certificate', by_tls(tls_server_name => undef), qr/its certificate is refused: IP address mismatch/);
refused('no certificate of ours', by_tls(tls_cert_file => undef, tls_key_file => undef), qr/certificate required|the connection was closed|Connection reset|Broken pipe/);
refused('a file that is none', by_tls(tls_ca_file => "$tls/none.pem"), qr/redis\.tls_ca_file: no certificates can be read/);
refused('TLS without rediss://', qq(url = "redis://127.0.0.1:$port"\ntls_ca_file = "$tls/ca.pem"\n), qr/only spoken to rediss/);
refused('a wrong password', qq(url = "redis://sidecar:wrong\@127.0.0.1:$port"\n), qr/AUTH or SELECT was refused: WRONGPASS/);
refused('no password', qq(url = "redis://127.0.0.1:$port"\n), qr/NOAUTH/);
refused('a cluster by a unix socket', qq(url = "unix:/tmp/x"\ncluster = true\n), qr/reached by TCP/);
refused('Sentinels without a name', qq(sentinels = ["127.0.0.1"]\n), qr/go together/);

# -- the whole road, by TLS and by a unix socket -------------------------------------------------------
my $front;
sub road ($name, $lines, %front) {
    configure($lines);
    my ($code, $said) = $sidecar->run('check-config');
    is $code, 0, "$name: check-config" or diag $said;
    $sidecar->serve->wait_until_healthy;
    my $options = "username=edge password_file=" . $t->path('headgate/edge.password');
    if (!$front) { $front = $sidecar->front(redis_address => "127.0.0.1:$port $options", %front) }
    my $answer = $front->request(
        'POST', '/events', headers => ['X-API-Key' => $sidecar->api_key, 'Content-Type' => 'application/json', 'Idempotency-Key' => $name =~ s/ /-/r],
        body => '{"type":"order.created","source":"road","payload":{"n":1}}',
    );
    is $answer->status, 201, "$name: an event is published" or diag $answer->body;
    my $id = $answer->json->{id};
    $t->wait_for("$name: the event to be stored", sub { $sidecar->sql_value("SELECT count(*) FROM events WHERE id = '$id'") == 1 });
    $t->wait_for("$name: the event to be deleted", sub { $redis->event_count == 0 });
    my $key = $sidecar->run_json('key', 'create', '--org', $sidecar->org, '--name', $name, '--scopes', 'events:write', '--plan', 'pro');
    $t->wait_for("$name: a new key to be known", sub { $front->request('POST', '/events', headers => ['X-API-Key' => $key->{api_key}, 'Content-Type' => 'application/json'], body => '{')->status == 400 });
    is(($sidecar->run('key', 'revoke', $key->{id}))[0], 0, "$name: revoked");
    $t->wait_for("$name: and refused", sub { $front->request('POST', '/events', headers => ['X-API-Key' => $key->{api_key}, 'Content-Type' => 'application/json'], body => '{')->status == 401 });
    $t->wait_for("$name: the status", sub { $redis->command('KEYS', 'headgate:status:sidecar:*')->@* == 1 });
    unlike $sidecar->process->log_text, qr/NOPERM/, "$name: the sidecar lacks no permission";
    unlike $front->error_text, qr/NOPERM/, "$name: nor does the edge";
    like $redis->command('CLIENT', 'LIST'), qr/user=sidecar/, "$name: as the user `sidecar`";
    return;
}
road('TLS', by_tls());
is scalar(grep { /user=sidecar/ && !/laddr=127\.0\.0\.1:$tls_port / } split /\n/, $redis->command('CLIENT', 'LIST')), 0, 'every connection of the sidecar is by TLS';

# Redis forgets everything: the sidecar makes groups, keys and revocations again.
$redis->command('FLUSHALL');
$t->wait_for('groups and keys to be there again', sub { (() = $redis->streams) == 8 && $redis->command('KEYS', 'headgate:key:*')->@* >= 2 });
my $groups = grep { eval { $redis->command('XINFO', 'GROUPS', $_)->@* == 1 } } $redis->streams;
is $groups, 8, 'after FLUSHALL each stream has its group';

$sidecar->process->stop;
road('unix socket', qq(url = "unix:$redis->{path}"\n$user));
$sidecar->process->stop;
$front->process->stop;
undef $front;

# -- what the users cannot do -------------------------------------------------------------------------
$redis->command('XADD', 'headgate:{0}:events', '*', 'a', 'b');
for my $case (
    ['edge', map { [split / /] } 'XRANGE headgate:{0}:events - +', 'XREAD STREAMS headgate:{0}:events 0', 'XREVRANGE headgate:{0}:events + -',
        'XREADGROUP GROUP headgate owner STREAMS headgate:{0}:events >', 'XDEL headgate:{0}:events 1-1', 'XTRIM headgate:{0}:events MAXLEN 0',
        'HSET headgate:key:x org o', 'ZADD headgate:revoked 1 x', 'XADD headgate:control * op resync', 'FLUSHALL', 'CONFIG SET save x',
        'KEYS *', 'ACL LIST', 'GET other', 'CLIENT KILL TYPE normal', 'SHUTDOWN'],
    ['sidecar', map { [split / /] } 'FLUSHALL', 'FLUSHDB', 'CONFIG SET save x', 'CONFIG REWRITE', 'KEYS *', 'GET other', 'SET other x', 'ACL LIST',
        'SCRIPT FLUSH', 'CLIENT KILL TYPE normal', 'SHUTDOWN', 'REPLICAOF NO ONE', 'MODULE LIST', 'CLUSTER RESET'],
) {
    my ($name, @commands) = @$case;
    my $client = $redis->connect(user => $name, password => $password{$name});
    for my $words (@commands) {
        my ($reply, $error) = $client->try_command(@$words);
        like $error // 'it was done', qr/^NOPERM/, "$name may not: @$words";
    }
}

# -- a database of its own ----------------------------------------------------------------------------
$redis->command('FLUSHALL');
configure(qq(url = "redis://127.0.0.1:$port/5"\n$user));
$sidecar->serve->wait_until_healthy;
is $redis->command('DBSIZE'), 0, 'nothing is in database 0';
$redis->command('SELECT', 5);
ok $redis->command('EXISTS', 'headgate:meta'), 'everything is in database 5';

$t->done;
