# A Redis whose memory is full (`noeviction`) refuses all that needs memory, and every command inside MULTI. The sidecar makes
# room by itself: it persists, acknowledges and deletes; also when it is started in front of such a Redis that has
# forgotten everything, and on the masters of a cluster.
use v5.36;
use Test::More;

use Headgate::Cluster;
use Headgate::Credentials qw(uuid);
use Headgate::Edge;
use Headgate::Http;
use Headgate::Receiver;
use Headgate::Test;

my $PAYLOAD = 'x' x 10_000;
my ($t, $receiver, $sidecar);

sub entry ($stream, $id, $org) {
    return (
        'XADD', $stream, '*', v => 1, id => $id, org => $org, key => 'k', type => 'order.created', source => 'test',
        payload => qq({"n":"$PAYLOAD"}), ord => '', tp => '', via => 'api', at => int(time * 1000),
    );
}
# Returns their ids.
sub fill ($redis, $streams, $count) {
    return map { my $id = uuid(); $redis->command(entry($streams->[$_ % @$streams], $id, $sidecar->org)); $id } 1 .. $count;
}
sub is_full ($node) {
    my $key = ($node->streams)[0] =~ s/events$/more/r;    # a slot of this node
    return !eval { $node->command('SET', $key, 1); 1 } && $@ =~ /OOM/;
}
# What it holds now is too much, and half of it is not.
sub limit_memory ($node, $empty) {
    my ($used) = $node->command('INFO', 'memory') =~ /^used_memory:(\d+)/m;
    $node->command('CONFIG', 'SET', 'maxmemory', int(($used + $empty) / 2));
    ok is_full($node), 'the Redis is full';
}
sub used ($node) { return ($node->command('INFO', 'memory') =~ /^used_memory:(\d+)/m)[0] }
sub health () { Headgate::Http->connect(port => $sidecar->port)->request('GET', '/health')->status }
sub arrived (@ids) {
    $t->wait_for('all of it to be sent', sub { my $got = $receiver->received; @ids == grep { $got->{"hook $_"} } @ids }, 30);
    is $sidecar->sql_value('SELECT count(*) FROM quarantine'), 0, 'nothing was broken';
}
sub begin (%of_redis) {
    $t        = Headgate::Test->new;
    $receiver = Headgate::Receiver->start($t);
    $sidecar  = $t->sidecar(redis => $t->redis(%of_redis));
    $sidecar->run_json('webhook', 'create', '--org', $sidecar->org, '--url', $receiver->url('hook'), '--events', 'order.*');
    $sidecar->serve->wait_until_healthy;
}
sub answers_again () {
    $t->wait_for('the sidecar to be healthy', sub { eval { health() == 200 } }, 30);
    pass 'the sidecar is healthy';
}

subtest 'it becomes full while the sidecar stands still' => sub {
    begin();
    my $redis   = $sidecar->redis;
    my $empty   = used($redis);
    my @streams = $redis->streams;
    kill STOP => $sidecar->process->pid;
    my @ids = fill($redis, \@streams, 300);
    limit_memory($redis, $empty);
    kill CONT => $sidecar->process->pid;
    $t->wait_for('the streams to be empty', sub { $redis->event_count == 0 }, 30);
    ok !is_full($redis), 'there is room again';
    arrived(@ids);
    answers_again();
    is scalar(grep { $redis->command('XPENDING', $_, 'headgate')->[0] } @streams), 0, 'nothing is pending';
    $t->done;
};

subtest 'it has forgotten everything, and is full before the sidecar comes' => sub {
    begin();
    my $redis   = $sidecar->redis;
    my $empty   = used($redis);
    my @streams = $redis->streams;
    $sidecar->process->stop;
    $redis->command('FLUSHALL');
    my @ids = fill($redis, [@streams[0 .. 4]], 300);
    limit_memory($redis, $empty);
    $sidecar->serve;
    $t->wait_for('the streams to be empty', sub { $redis->event_count == 0 }, 30);
    arrived(@ids);
    answers_again();
    is $redis->command('HGET', 'headgate:meta', 'projected'), '1', 'keys are projected';
    is $redis->command('HGET', 'headgate:meta', 'shards'), '8', '... and what was agreed is written';
    $t->done;
};

subtest 'keys that cannot be projected' => sub {
    begin();
    my $redis = $sidecar->redis;
    my ($stream) = $redis->streams;
    # Less than an empty Redis needs.
    $redis->command('CONFIG', 'SET', 'maxmemory', 100_000);
    ok is_full($redis), 'the Redis stays full';
    $sidecar->run_json('key', 'create', '--org', $sidecar->org, '--name', 'late', '--scopes', 'events:write', '--plan', 'pro');
    $t->wait_for('the projection to fail', sub { $sidecar->process->log_text =~ /event=projection_failed error="Redis: OOM/ });
    is health(), 200, 'the sidecar works: nothing waits';
    $redis->command('CONFIG', 'SET', 'maxmemory', 0);
    $t->wait_for('the key', sub { 2 == $redis->command('KEYS', 'headgate:key:*')->@* });
    pass 'the key is there when there is room';
    $t->wait_for('the status', sub { $redis->command('KEYS', 'headgate:status:sidecar:*')->@* == 1 });
    pass 'so is the status';
    my @ids = fill($redis, [$stream], 3);
    arrived(@ids);
    $t->done;
};

subtest 'a snapshot cannot be written' => sub {
    begin(extra => "dbfilename nowhere\nsave 3600 1");
    my $redis = $sidecar->redis;
    my ($stream) = $redis->streams;
    my @ids = fill($redis, [$stream], 1);
    arrived(@ids);
    kill STOP => $sidecar->process->pid;
    push @ids, fill($redis, [$stream], 20);
    my $taken = $t->dir('redis/nowhere');
    $redis->command('BGSAVE');
    $t->wait_for('writes to be refused', sub { !eval { $redis->command('SET', 'one', 'more'); 1 } && $@ =~ /MISCONF/ });
    kill CONT => $sidecar->process->pid;
    $t->wait_for('ingest to be refused', sub { $sidecar->process->log_text =~ /event=ingest\.\w+_refused error="MISCONF/ });
    rmdir $taken or die "$taken: $!";
    $redis->command('BGSAVE');
    $t->wait_for('the streams to be empty', sub { $redis->event_count == 0 }, 30);
    arrived(@ids);
    answers_again();
    $t->done;
};

subtest 'a key in the place of a stream' => sub {
    begin();
    my $redis = $sidecar->redis;
    my ($first, $second) = $redis->streams;
    $redis->command('DEL', $first);
    $redis->command('SET', $first, 'a string');
    my @ids = fill($redis, [$second], 5);
    $t->wait_for('ingest to be refused', sub { $sidecar->process->log_text =~ /error="WRONGTYPE/ });
    $redis->command('DEL', $first);
    push @ids, fill($redis, [$first], 5);
    arrived(@ids);
    answers_again();
    $t->done;
};

subtest 'the masters of a cluster' => sub {
    my $cluster;
    my $begin = sub ($new) { $cluster = Headgate::Cluster->start($new, replicas => 0) };
    $t        = Headgate::Test->new;
    $begin->($t);
    $receiver = Headgate::Receiver->start($t);
    $sidecar  = $t->sidecar(redis => $cluster, redis_toml => "cluster = true\nshards = 16\n");
    $sidecar->run_json('webhook', 'create', '--org', $sidecar->org, '--url', $receiver->url('hook'), '--events', 'order.*');
    $sidecar->serve->wait_until_healthy;
    $t->wait_for('the streams', sub { 16 == (() = $cluster->streams_of) });
    my @masters = $cluster->masters;
    my %empty   = map { $_->port => used($_) } @masters;
    kill STOP => $sidecar->process->pid;
    my @ids;
    for my $master (@masters) {
        push @ids, fill($master, [$master->streams], 150);
        limit_memory($master, $empty{$master->port});
    }
    # One of them has also lost a group.
    $masters[0]->command('XGROUP', 'DESTROY', ($masters[0]->streams)[0], 'headgate');
    kill CONT => $sidecar->process->pid;
    $t->wait_for('the streams to be empty', sub { $cluster->event_count == 0 }, 30);
    is scalar(grep { is_full($_) } @masters), 0, 'there is room again';
    arrived(@ids);
    answers_again();
    $t->done;
};

done_testing();
