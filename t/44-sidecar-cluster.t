# The whole road over a Redis Cluster: 64 shards on three masters with a replica each. Under load a slot moves, a master is failed over by
# hand, another is killed: what was answered 201 (by a master and its replica) is in the store once and delivered. Then
# masters lose their memory, one by one, and get back what belongs there.
use v5.36;
use Test::More;

use Headgate::Cluster;
use Headgate::Reconcile;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $cluster = Headgate::Cluster->start($t);
my $sidecar = $t->sidecar(redis => $cluster, redis_toml => "cluster = true\nshards = 64\n")->serve->wait_until_healthy;
my $front   = $sidecar->front(redis_address => $cluster->seeds . ' cluster=on', http => 'headgate_shards 64; headgate_publish_ack replica;');
my $road    = Headgate::Reconcile->new($t, $sidecar);

$road->start_load($front);
$road->progress('at first');
my @streams = map { $_->[1] } $cluster->streams_of;
is scalar(@streams), 64, 'there are 64 streams';

# -- a slot moves, with what lies in it ---------------------------------------------------------------
my ($from, $to) = ($cluster->masters)[0, 1];
my ($moving) = $from->streams;
$cluster->move_slot($from->command('CLUSTER', 'KEYSLOT', $moving), $from, $to, sub () { $road->progress('while a slot is on the move') });
$t->wait_for('the stream to be read where it is now', sub { $to->command('XINFO', 'GROUPS', $moving)->[0] && $to->command('CLIENT', 'LIST') =~ /cmd=xreadgroup/ });
$road->progress('after a slot has moved');

# -- a failover by hand, and one by death -------------------------------------------------------------
$cluster->replica(0)->command('CLUSTER', 'FAILOVER');
$t->wait_for('the replica to take over', sub { $cluster->replica(0)->command('ROLE')->[0] eq 'master' }, 30);
$road->progress('after a failover by hand');
$cluster->node(1)->crash;
$t->wait_for('another to take its place', sub { $cluster->replica(1)->command('ROLE')->[0] eq 'master' }, 30);
$cluster->node(1)->restart;
$road->progress('after a master died');
$t->wait_for('all shards to be served', sub { $cluster->masters == 3 });
$road->settle;
$t->wait_for('the streams to be empty', sub { $cluster->event_count == 0 });

# -- masters without their memory ---------------------------------------------------------------------
sub status_of ($key) {
    return $front->request(
        'POST', '/events', headers => ['X-API-Key' => $key, 'Content-Type' => 'application/json'],
        body => '{"type":"order.created","source":"cluster","payload":{}}',
    )->status;
}
my @keys = map { $sidecar->run_json('key', 'create', '--org', $sidecar->org, '--name', "k$_", '--scopes', 'events:write', '--plan', 'pro') } 1 .. 12;
sub projected () { my %at; $at{$_} = 1 for map { $_->command('KEYS', 'headgate:key:*')->@* } $cluster->masters; return scalar keys %at }
$t->wait_for('all keys to be projected', sub { projected() == 13 });
for my $n (1 .. 3) {
    my ($master) = (sort { $a->port <=> $b->port } $cluster->masters)[$n - 1];
    my $lost = $master->command('KEYS', 'headgate:key:*')->@*;
    $master->command('FLUSHALL');
    $t->wait_for("master $n to have its keys again", sub { projected() == 13 });
    ok 1, "master $n lost $lost keys and everything else, and has them again";
}
is_deeply [map { status_of($_->{api_key}) } @keys], [(201) x @keys], 'all keys are good';
my $stored = $sidecar->sql_value('SELECT count(*) FROM events');
$t->wait_for('what was published afterwards to be stored', sub { $sidecar->sql_value("SELECT count(*) FROM events WHERE source = 'cluster'") == @keys });
is $sidecar->sql_value('SELECT count(*) FROM quarantine'), 0, 'nothing was broken';

$t->done;
