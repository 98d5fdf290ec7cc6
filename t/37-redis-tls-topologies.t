# TLS to Sentinels that want a password of their own, to the master that they name, and to the nodes of a cluster: each
# certificate must be good for tls_name=, or else for the host as it was written or as Redis names it.
use v5.36;
use Test::More;

use Headgate::Authority;
use Headgate::Cluster;
use Headgate::Dns;
use Headgate::Edge;
use Headgate::Sentinel;
use Headgate::Test;

my $t    = Headgate::Test->new;
my $ca   = Headgate::Authority->start($t);
my $dns  = Headgate::Dns->start($t, address => '127.0.0.1');
my %PASS = map { $_ => "$_-" . 'p4ss' x 5 } qw(master sentinel edge);
my %file = map { $_ => $t->write_file("pass-$_", "$PASS{$_}\n") } keys %PASS;

my $number = 0;
sub edge ($redis, %args) {
    my $options = "tls=on tls_ca=@{[ $ca->pem ]} " . delete $args{options};
    return Headgate::Edge->start($t, redis => $redis, name => 'nginx' . ++$number, redis_options => $options, http => "resolver 127.0.0.1:@{[ $dns->port ]} ipv6=off;", %args);
}
sub status_of ($edge) { $edge->publish(token => $edge->token(claims => { plan => 'unlimited' }))->status }
sub works ($edge, $name) {
    is status_of($edge), 201, $name;
    $edge->nginx->process->stop;
}
sub is_refused ($name, $pattern, $redis, %args) {
    my $edge = edge($redis, wait => 0, projected => 0, %args);
    $t->wait_for("$name: the reason in the log", sub { $edge->nginx->error_text =~ $pattern });
    is status_of($edge), 503, "$name: refused";
    unlike $edge->nginx->error_text, qr/p4ss/, "$name: the log shows no password";
    $edge->nginx->process->stop;
}

# -- Sentinel ---------------------------------------------------------------------------------------
# The master's certificate has a name alone, the Sentinel's its address as well.
my @tls_ports = map { $t->port } 0 .. 3;
my ($master, $replica) = map {
    $t->redis(
        name => "group$_", appendonly => 'no', password => $PASS{master},
        extra => $ca->redis_lines($tls_ports[$_], 'DNS:redis.test', 'DNS:localhost') . "masterauth $PASS{master}\ntls-replication yes\nrepl-diskless-sync-delay 0",
    )
} 0, 1;
$replica->command('REPLICAOF', '127.0.0.1', $tls_ports[0]);
# A Sentinel looks at once, and then after 10 s.
$t->wait_for('the replica to follow', sub { $master->command('INFO', 'replication') =~ /state=online,offset=[1-9]/ }, 30);
my $acl = "requirepass $PASS{sentinel}\nuser edge on >$PASS{edge} -\@all +auth +sentinel|get-master-addr-by-name\n";
my %sentinel = (password => $PASS{sentinel}, master_password => $PASS{master});
my $by_address = Headgate::Sentinel->start(
    $t, %sentinel, name => 'group', address => "127.0.0.1 $tls_ports[0]",
    extra => $ca->redis_lines($tls_ports[2], 'DNS:redis.test', 'IP:127.0.0.1') . "tls-replication yes\n$acl",
);
my $by_name = Headgate::Sentinel->start(
    $t, %sentinel, name => 'named', address => "localhost $tls_ports[0]",
    extra => $ca->redis_lines($tls_ports[3], 'IP:127.0.0.1') . "tls-replication yes\nsentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n$acl",
);
$by_address->wait_for_replicas(1);
my $at    = "127.0.0.1:$tls_ports[2]";
my $group = "sentinel=group password_file=$file{master}";
my $user  = "sentinel_username=edge sentinel_password_file=$file{edge}";

is_refused('a Sentinel without its password', qr/Redis refused the greeting: NOAUTH/, $master, redis_address => $at, options => "$group tls_name=redis.test");
is_refused('a Sentinel with the master\'s password', qr/Redis refused the password: WRONGPASS/, $master, redis_address => $at, options => "$group tls_name=redis.test sentinel_password_file=$file{master}");
is_refused('a master that is named by an address, with a certificate for names', qr/certificate is refused: IP address mismatch/i, $master, redis_address => $at, options => "$group $user");
is_refused('a Sentinel whose certificate is for another name', qr/certificate is refused: hostname mismatch/i, $master, redis_address => $at, options => "$group $user tls_name=localhost");
works(edge($master, redis_address => $at, options => "$group tls_name=redis.test sentinel_password_file=$file{sentinel}"), 'a Sentinel with a password');
works(edge($master, redis_address => "127.0.0.1:$tls_ports[3]", options => "sentinel=named password_file=$file{master} $user"), 'a master that its Sentinel names by name');

my $edge = edge($master, redis_address => $at, options => "$group $user tls_name=redis.test");
is status_of($edge), 201, 'a Sentinel with a user and a password';
$t->wait_for('the replica to have it', sub { $replica->event_count == $master->event_count });
$by_address->command('SENTINEL', 'FAILOVER', 'group');
$t->wait_for('the Sentinel to promote the replica', sub { $by_address->master_port == $tls_ports[1] }, 30);
delete $_->{client} for $master, $replica;  # a server whose role changes drops its clients
my $before = $replica->event_count;
$t->wait_for('the edge to write to it', sub { status_of($edge) == 201 && eval { $replica->event_count > $before } }, 20);
pass 'the promoted replica is served by TLS as well';
$edge->nginx->process->stop;

# -- Cluster ----------------------------------------------------------------------------------------
my @node_ports;
my $cluster = Headgate::Cluster->start(
    $t, replicas => 0,
    lines => sub {
        push @node_ports, $t->port;
        return $ca->redis_lines($node_ports[-1], 'DNS:node.test') . "tls-cluster yes\ntls-replication yes\n";
    },
);
my %cluster = (shards => 64, redis_address => "node.test:$node_ports[0]");
is_refused('nodes that announce addresses, with certificates for names', qr/certificate is refused: IP address mismatch/i, $cluster, %cluster, options => 'cluster=on');
$edge = edge($cluster, %cluster, options => 'cluster=on tls_name=node.test');
is_deeply [map { status_of($edge) } 1 .. 60], [(201) x 60], 'TLS to a cluster, by the name that is configured';
is scalar(grep { $_->event_count } $cluster->nodes), 3, 'each node has some of the events';
$edge->nginx->process->stop;

for my $node ($cluster->nodes) {
    $node->command('CONFIG', 'SET', 'cluster-announce-hostname', 'node.test', 'cluster-preferred-endpoint-type', 'hostname');
}
$t->wait_for(
    'every node to know the names of all',
    sub {
        !grep { my $node = $_; grep { $_->[2][0] ne 'node.test' } $node->command('CLUSTER', 'SLOTS')->@* } $cluster->nodes;
    }
);
$edge = edge($cluster, %cluster, options => 'cluster=on');
is_deeply [map { status_of($edge) } 1 .. 60], [(201) x 60], 'TLS to a cluster, by the names that its nodes announce';
my @ids;
sub move_event ($edge, $name) {
    my $answer = $edge->publish(token => $edge->token(claims => { plan => 'unlimited' }), body => Headgate::Edge::event_body(ordering_key => 'moving'));
    is $answer->status, 201, $name or diag $answer->body;
    push @ids, $answer->json->{id};
}
move_event($edge, 'an event before its slot moves');
my ($from, $stream);
for ($cluster->streams_of) {
    ($from, $stream) = @$_ if grep { $_->[1]{id} eq $ids[0] } $_->[0]->client->entries($_->[1]);
}
my ($to) = grep { $_ != $from } $cluster->masters;
# Redirections over TLS name the port for TLS.
$cluster->move_slot($from->command('CLUSTER', 'KEYSLOT', $stream), $from, $to, sub () { move_event($edge, 'ASK is followed to another node') });
move_event($edge, 'and MOVED');
my %is_moved = map { $_ => 1 } @ids;
is_deeply [grep { $is_moved{$_} } map { $_->[1]{id} } $to->client->entries($stream)], \@ids, 'all of them are at the new owner';

$t->done;
