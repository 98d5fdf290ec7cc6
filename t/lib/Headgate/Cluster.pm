# A Redis Cluster of the test's own: masters with one replica each, on loopback, all slots served.
package Headgate::Cluster;
use v5.36;

use Headgate::Redis;

my $SLOTS = 16_384;

# masters (3), replicas (1: one for each master), extra (lines of redis.conf), lines: a sub that returns more of them for each node.
sub start ($class, $t, %args) {
    my $masters = $args{masters} // 3;
    my $extra   = "cluster-enabled yes\ncluster-node-timeout 1000\ncluster-require-full-coverage no\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n" . ($args{extra} // '');
    my @nodes   = map { Headgate::Redis->start($t, name => "node$_", appendonly => 'no', extra => $extra . 'cluster-port ' . $t->port . "\n" . ($args{lines} ? $args{lines}->() : '')) }
        0 .. $masters * (($args{replicas} // 1) + 1) - 1;
    my $self = bless { t => $t, nodes => \@nodes, masters => $masters }, $class;
    for my $n (0 .. $#nodes) {
        $nodes[$n]->command('CLUSTER', 'SET-CONFIG-EPOCH', $n + 1);
        my ($cport) = $nodes[0]->command('CONFIG', 'GET', 'cluster-port')->[1];
        $nodes[$n]->command('CLUSTER', 'MEET', '127.0.0.1', $nodes[0]->port, $cport) if $n;
    }
    for my $n (0 .. $masters - 1) {
        my ($first, $end) = map { int($SLOTS * $_ / $masters) } $n, $n + 1;
        $nodes[$n]->command('CLUSTER', 'ADDSLOTSRANGE', $first, $end - 1);
    }
    my $all = sub ($what, $condition) { $t->wait_for($what, sub { !grep { !$condition->($_) } @nodes }, 30) };
    $all->('every node to know every other', sub ($node) { @nodes == (() = $node->command('CLUSTER', 'NODES') =~ / connected/g) });
    for my $n ($masters .. $#nodes) {
        $nodes[$n]->command('CLUSTER', 'REPLICATE', $nodes[$n % $masters]->command('CLUSTER', 'MYID'));
    }
    $all->('the cluster to be ok', sub ($node) { $node->command('CLUSTER', 'INFO') =~ /cluster_state:ok.*cluster_slots_ok:$SLOTS/s });
    for my $n ($masters .. $#nodes) {
        my $master = $nodes[$n % $masters];
        $t->wait_for('a replica to follow its master', sub { $nodes[$n]->command('INFO', 'replication') =~ /master_link_status:up/ }, 30);
        $t->wait_for('its first acknowledgement', sub { $master->command('INFO', 'replication') =~ /state=online,offset=[1-9]/ }, 30);
    }
    # CLUSTER SLOTS leaves out a replica whose offset has not been heard of yet.
    $all->('every node to name all of them', sub ($node) { @nodes == (() = map { @$_[2 .. $#$_] } $node->command('CLUSTER', 'SLOTS')->@*) });
    $all->('every node to know the replicas', sub ($node) { @nodes - $masters == (() = $node->command('CLUSTER', 'NODES') =~ / (?:myself,)?slave /g) });
    return $self;
}

sub nodes ($self) { $self->{nodes}->@* }
sub node ($self, $n) { $self->{nodes}[$n] }
# The first node's replica and so on.
sub replica ($self, $n) { $self->{nodes}[$self->{masters} + $n] }
# What headgate_redis is told.
sub seeds ($self) { join ' ', map { '127.0.0.1:' . $_->port } $self->nodes }

# And redis.url of the sidecar, with `redis.cluster = true`.
sub url ($self) { 'redis://' . join ',', split / /, $self->seeds }

# The masters that answer now.
sub masters ($self) {
    return grep { $_->process->alive && eval { $_->command('ROLE')->[0] eq 'master' } } $self->nodes;
}

# Which node (its master) serves the key's slot, as the first node that answers sees it.
sub owner ($self, $key) {
    my ($asked) = $self->masters;
    my $slot = $asked->command('CLUSTER', 'KEYSLOT', $key);
    for my $range ($asked->command('CLUSTER', 'SLOTS')->@*) {
        next if $slot < $range->[0] || $slot > $range->[1];
        return (grep { $_->port == $range->[2][1] } $self->nodes)[0];
    }
    return undef;
}

# One command about a key, at its owner.
sub command_at ($self, $key, @words) { $self->owner($key)->command(@words) }

# As Headgate::Redis, so that Headgate::Edge can project into a cluster: the second word is the key.
sub command ($self, @words) { $self->command_at($words[1], @words) }

sub streams_of ($self) {
    return map { my $node = $_; map { [$node, $_] } $node->streams } $self->masters;
}
# All events of all masters.
sub events ($self) {
    return map { my ($node, $stream) = @$_; map { $_->[1] } $node->client->entries($stream) } $self->streams_of;
}
sub event_count ($self) { return scalar(my @events = $self->events) }
sub event ($self, $id) { (grep { $_->{id} eq $id } $self->events)[0] }

# Moves a slot with all its keys from one node to another; between the two halves `meanwhile` is called, when
# the slot is MIGRATING and some of its keys have gone.
sub move_slot ($self, $slot, $from, $to, $meanwhile = sub { }) {
    my ($from_id, $to_id) = map { $_->command('CLUSTER', 'MYID') } $from, $to;
    my $port = $to->command('CONFIG', 'GET', 'tls-port')->[1] || $to->port;  # nodes with tls-cluster speak TLS to each other
    $to->command('CLUSTER', 'SETSLOT', $slot, 'IMPORTING', $from_id);
    $from->command('CLUSTER', 'SETSLOT', $slot, 'MIGRATING', $to_id);
    for my $key ($from->command('CLUSTER', 'GETKEYSINSLOT', $slot, 1000)->@*) {
        $from->command('MIGRATE', '127.0.0.1', $port, $key, 0, 5000);
    }
    $meanwhile->();
    for my $node ($to, grep { $_ != $to } $self->masters) {
        $node->command('CLUSTER', 'SETSLOT', $slot, 'NODE', $to_id);
    }
}

1;
