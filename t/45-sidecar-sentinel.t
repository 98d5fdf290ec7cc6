# A master and its replica under Sentinels: the sidecar finds the master, and finds it again when
# it has died. Then the same with two servers and nobody to say which is the master.
use v5.36;
use Test::More;

use Headgate::Reconcile;
use Headgate::Sentinel;
use Headgate::Test;

my $t = Headgate::Test->new;

my ($master, $replica) = map { $t->redis(name => "redis$_", appendonly => 'no', extra => "repl-diskless-sync-delay 0") } 1, 2;
$replica->follow($master);
my $sentinel = Headgate::Sentinel->start($t, master => $master);
$sentinel->wait_for_replicas(1);
my $dead_port = $t->port;
my $sentinels = qq(sentinels = ["127.0.0.1:$dead_port", "127.0.0.1:$sentinel->{port}"]\nsentinel_master = "mymaster"\n);

# Whatever redis.url says, the Sentinels know better.
my $sidecar = $t->sidecar(redis => $master, redis_toml => qq(url = "redis://127.0.0.1:$dead_port"\n$sentinels))->serve->wait_until_healthy;
my $front   = $sidecar->front(redis_address => "127.0.0.1:$sentinel->{port} sentinel=mymaster", http => 'headgate_publish_ack replica;');
my $road    = Headgate::Reconcile->new($t, $sidecar);
$road->start_load($front);
$road->progress('at first');
$master->crash;
$t->wait_for('the Sentinel to promote the replica', sub { $sentinel->master_port == $replica->port }, 30);
$master->restart;
$master->command('REPLICAOF', '127.0.0.1', $replica->port);    # Sentinel would do it, after 10 s
$road->progress('after the failover');
$road->settle;
my ($code, $said) = $sidecar->run('check-config');
is $code, 0, 'check-config reaches the master by the Sentinels' or diag $said;

# The command line has no connection that would have told it; it asks.
for my $server ([ 'the master', $replica->port ], [ 'its replica', $master->port ]) {
    my ($name, $port) = @$server;
    $t->wait_for(
        "explain-url to know $name",
        sub {
            ($code, $said) = $sidecar->run('explain-url', "http://127.0.0.1:$port/", '--org', 'test');
            return $code == 1 && $said =~ /own Redis, store or API/;
        },
    );
    unlike $said, qr/warning/, "explain-url refuses $name that the Sentinels named" or diag $said;
    ($code, $said) = $sidecar->run(qw(webhook create --org test --name no --events order.* --url), "http://127.0.0.1:$port/");
    ok $code == 1 && $said =~ /Headgate's own Redis/, 'and so does webhook create' or diag $said;
}

# -- no Sentinel: the master is the one whose ROLE says so ---------------------------------------------
$sidecar->process->stop;
$sentinel->command('SENTINEL', 'REMOVE', 'mymaster');
($code, $said) = $sidecar->run('explain-url', 'https://8.8.8.8/');
is $code, 0, 'explain-url answers without them' or diag $said;
like $said, qr/^warning: which servers our Redis has is not known: /m, 'and says that they did not';
my $toml = $t->read_file($sidecar->config);
my $both = 'redis://127.0.0.1:' . $master->port . ',127.0.0.1:' . $replica->port;
$t->write_file('headgate/headgate.toml', $toml =~ s/^sentinel.*\n//mgr =~ s/^url = .*/url = "$both"/mr);
$sidecar->serve->wait_until_healthy;
my $event = sub () {
    $front->request(
        'POST', '/events', headers => ['X-API-Key' => $sidecar->api_key, 'Content-Type' => 'application/json'],
        body => '{"type":"order.created","source":"two","payload":{}}',
    )->status;
};
$t->wait_for('an event by the replica that was promoted', sub { $event->() == 201 });
$t->wait_for('it to be stored', sub { $sidecar->sql_value("SELECT count(*) FROM events WHERE source = 'two'") >= 1 });
pass 'of two servers the master is found';

# A careful operator, and no Sentinel to undo it: the old master takes nothing more, the other catches up and takes over.
delete $_->{client} for $master, $replica;    # Sentinel has closed them all
$master->command('REPLICAOF', 'NO', 'ONE');
$replica->command('REPLICAOF', '127.0.0.1', $master->port);
$master->command('XADD', 'headgate:control', '*', 'op', 'resync', 'ref', '', 'until', 0);
my $stamp = sub () { ($master->command('KEYS', 'headgate:status:sidecar:*')->@*, '')[0] };
$master->command('DEL', $stamp->());
$t->wait_for('the sidecar to write to the new master', sub { $stamp->() ne '' }, 20);
pass 'and found again when it has changed';
$sidecar->wait_until_healthy;

$t->done;
