# A Redis that comes back without what it had: a master of a cluster restored from an older snapshot, of before there were
# groups; and a Redis whose answers to acknowledgements are lost, so that they are sent twice. Nothing is lost, and nothing is
# sent a second time.
use v5.36;
use Test::More;

use Headgate::Cluster;
use Headgate::Edge;
use Headgate::Receiver;
use Headgate::Test;

# One world after the other; each has its own Redis, store, edge and receiver.
my ($t, $receiver, $sidecar, $front);
sub begin () { $t = Headgate::Test->new; $receiver = Headgate::Receiver->start($t) }
sub publish () {
    my $answer = $front->request(
        'POST', '/events', headers => ['Content-Type' => 'application/json', 'X-API-Key' => $sidecar->api_key], body => Headgate::Edge::event_body(type => 'order.created'),
    );
    return $answer->status == 201 ? $answer->json->{id} : undef;
}
sub publish_all ($count) { map { publish() // $t->die_with_logs('an event was refused') } 1 .. $count }
sub deliveries_of ($id) { scalar(($receiver->received->{"hook $id"} // [])->@*) }
sub wait_arrived (@ids) { $t->wait_for('events to arrive', sub { !grep { !deliveries_of($_) } @ids }, 30) }
sub subscribe () { $sidecar->run_json('webhook', 'create', '--org', $sidecar->org, '--url', $receiver->url('hook'), '--events', 'order.*') }

subtest 'a master of a cluster, as it was before' => sub {
    begin();
    my $cluster = Headgate::Cluster->start($t, replicas => 0);
    $sidecar = $t->sidecar(redis => $cluster, redis_toml => "cluster = true\nshards = 16\n");
    subscribe();
    # Keys are projected first: then it stops, and what is published waits.
    $sidecar->serve->wait_until_healthy;
    $front = $sidecar->front(redis_address => $cluster->seeds . ' cluster=on', http => 'headgate_shards 16;');
    wait_arrived(publish_all(20));
    $sidecar->process->stop;
    my @old = publish_all(60);
    my ($master) = sort { (() = $b->streams) <=> (() = $a->streams) } $cluster->masters;
    # No groups in the snapshot.
    $master->command('XGROUP', 'DESTROY', $_, 'headgate') for $master->streams;
    my $kept = $master->event_count;
    cmp_ok $kept, '>', 0, "the snapshot of one master has $kept of 60 events";
    $master->command('SAVE');
    $sidecar->serve->wait_until_healthy;
    wait_arrived(@old);
    $t->wait_for('the streams to be empty', sub { $cluster->event_count == 0 });
    my @since = publish_all(20);
    wait_arrived(@since);
    $t->wait_for('the streams to be empty', sub { $cluster->event_count == 0 });
    $master->crash;
    $master->restart;
    $t->wait_for('the cluster to be whole', sub { $cluster->masters == 3 && $master->command('CLUSTER', 'INFO') =~ /cluster_state:ok/ }, 30);
    $t->wait_for('the older entries to be drained again', sub { $cluster->event_count == 0 }, 30);
    $t->wait_for('the edge to publish to every shard', sub { my $id = publish() or return 0; push @since, $id; @since >= 80 }, 30);
    wait_arrived(@since);
    is scalar(grep { deliveries_of($_) != 1 } @old, @since), 0, 'each event was delivered once';
    is $sidecar->sql_value('SELECT count(*) FROM deliveries'), $sidecar->sql_value('SELECT count(*) FROM events'), 'and each is in the store once';
    is $sidecar->sql_value('SELECT count(DISTINCT id) FROM events'), $sidecar->sql_value('SELECT count(*) FROM events'), 'under its own id';
    $t->wait_for('its groups', sub { !grep { !eval { $master->command('XINFO', 'GROUPS', $_)->@* } } $master->streams });
    pass 'the restored master has its groups again';
    $t->done;
};

subtest 'acknowledged twice' => sub {
    begin();
    my $redis = $t->redis;
    my $proxy = $t->proxy(to_port => $redis->port);
    $sidecar = $t->sidecar(redis => $redis, env => { HEADGATE_REDIS_URL => 'redis://127.0.0.1:' . $proxy->port });
    $sidecar->serve->wait_until_healthy;
    $front = $sidecar->front;
    subscribe();
    wait_arrived(publish_all(1));
    $sidecar->process->stop;
    # The answers stop between a commit and its acknowledgement, which then goes through unheard.
    $sidecar->serve_until('after_commit_before_ack:2=sleep2000');
    $t->wait_for_port($sidecar->port, $sidecar->process);
    wait_arrived(publish_all(1));
    $t->wait_for('the streams to be empty', sub { $redis->event_count == 0 });
    my ($id) = publish_all(1);
    $t->wait_for('its commit', sub { $sidecar->sql_value("SELECT count(*) FROM events WHERE id = '$id'") });
    is $redis->event_count, 1, 'committed, and not acknowledged yet';
    $proxy->command('stall_replies');
    $t->wait_for('its acknowledgement to be done', sub { $redis->event_count == 0 });
    $proxy->command('drop');
    $proxy->command('pass');
    wait_arrived($id, publish_all(5));
    $t->wait_for('the streams to be empty', sub { $redis->event_count == 0 });
    like $sidecar->process->log_text, qr/event=ingest\.ack_failed/, 'the first acknowledgement got no answer';
    is deliveries_of($id), 1, 'the event was delivered once';
    is $sidecar->sql_value("SELECT count(*) FROM events WHERE id = '$id'"), 1, '... and is there once';
    is scalar(grep { my $p = $redis->command('XPENDING', $_, 'headgate'); $p->[0] } $redis->streams), 0, 'nothing is pending';

    $t->done;
};

done_testing();
