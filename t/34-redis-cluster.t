# A Redis Cluster behind headgate_redis: three masters with a replica each. Events are spread over 64 shards, slots move
# while events are published, a master is killed under load. What was answered 201 with `headgate_publish_ack replica`
# is in the streams afterwards, and the only error anybody saw was 503.
use v5.36;
use Test::More;

use JSON::PP ();
use POSIX ();

use Headgate::Cluster;
use Headgate::Credentials;
use Headgate::Edge;
use Headgate::Load;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $cluster = Headgate::Cluster->start($t);
my $edge    = Headgate::Edge->start(
    $t, redis => $cluster, redis_address => $cluster->seeds, redis_options => 'cluster=on', shards => 64,
    limit => 'headgate_limit plan; headgate_limit_mode exact;', http => 'headgate_publish_ack replica;',
    locations => 'location = /batch { headgate_auth jwt; headgate_publish batch; }
        location = /plain { headgate_auth jwt; headgate_publish event; headgate_publish_ack stored; }',
);
my $token = $edge->token(claims => { plan => 'unlimited' });

sub request_of ($target, %members) {
    return Headgate::Http->format_request('POST', $target, headers => [$edge->headers(token => $token)], body => Headgate::Edge::event_body(%members));
}
my @answered;
sub note_answer ($status, $body) { push @answered, $1 if $status == 201 && $body =~ /"id":"([0-9a-f-]+)"/ }
sub account ($name) {
    my %stored;
    $stored{ $_->{id} }++ for $cluster->events;
    is scalar(grep { !$stored{$_} } @answered), 0, "$name: each of " . @answered . ' events that were answered 201 is there';
}

# -- spread over the masters ------------------------------------------------------------------------
my $key = $edge->add_key(plan => 'pro');
is $edge->publish(key => $key)->status, 201, 'an API key, a limit and an event, each where its slot is';
is $edge->publish(key => Headgate::Credentials::make_api_key())->status, 401, 'an unknown key is unknown';
is scalar(map { $_->command('KEYS', 'headgate:limit:*')->@* } $cluster->masters), 1, 'the limit is in one place';
my $counts = Headgate::Load->run(port => $edge->nginx->port, connections => 8, requests => 1500, bytes => request_of('/events'), on_answer => \&note_answer);
is_deeply $counts, { 201 => 1500 }, '1,500 events are all answered 201';
my %streams;
$streams{ $_->[0]->port }{ $_->[1] } = 1 for $cluster->streams_of;
is scalar(map { keys %$_ } values %streams), 64, 'they lie in 64 streams';
is_deeply [map { scalar keys $streams{$_}->%* > 15 ? 1 : 0 } sort keys %streams], [1, 1, 1], 'spread over three masters';
account('spread');

# -- the scripts and the map are gone ---------------------------------------------------------------
$_->command('SCRIPT', 'FLUSH') for $cluster->masters;
is $edge->publish(key => $key)->status, 201, 'NOSCRIPT is healed on the node that said so';

# -- slots move -------------------------------------------------------------------------------------
# All events of one ordering key lie in one stream: its slot moves while they are published.
sub stream_of ($id) {
    for ($cluster->streams_of) {
        my ($node, $stream) = @$_;
        return ($node, $stream) if grep { $_->[1]{id} eq $id } $node->client->entries($stream);
    }
    return;
}
my $first = $edge->publish(token => $token, body => Headgate::Edge::event_body(ordering_key => 'moving'))->json->{id};
my ($from, $stream) = stream_of($first);
my ($to) = grep { $_ != $from } $cluster->masters;
my $slot = $from->command('CLUSTER', 'KEYSLOT', $stream);
my @moving = ($first);
sub publish_moving ($name, $target = '/events') {
    my $answer = $edge->publish(token => $token, target => $target, body => Headgate::Edge::event_body(ordering_key => 'moving', payload => { fill => 'x' x 100_000 }));
    is $answer->status, 201, $name or diag $answer->body;
    push @moving, $answer->json->{id};
}
my $batch_body = '[' . join(',', map { Headgate::Edge::event_body(ordering_key => $_) } 'moving', map { "b$_" } 1 .. 30) . ']';
sub publish_batch () { $edge->publish(token => $token, target => '/batch', headers => ['Idempotency-Key' => 'batch-1'], body => $batch_body) }
my @batch_ids;
$_->command('SCRIPT', 'FLUSH') for $cluster->masters;
$cluster->move_slot(
    $slot, $from, $to,
    sub () {
        my $answer = publish_batch();
        is $answer->status, 200, 'a batch with an Idempotency-Key, all over the cluster, one of its slots on the move' or diag $answer->body;
        @batch_ids = map { $_->{id} } $answer->json->{results}->@*;
        # Redis runs no call with several keys, as the Idempotency-Key needs one, while they may lie on either side.
        is $answer->json->{results}[0]{status}, 503, 'the event whose slot moves on and on is to be sent again';
        is scalar(grep { defined } @batch_ids), 30, 'each of the others is stored';
        # Its keys have gone: the old owner says ASK. The body lies in a file and is sent twice.
        publish_moving('ASK is followed, by an event that waits for replicas');
        publish_moving('ASK is followed, by an event that does not', '/plain');
    }
);
publish_moving('MOVED is followed');
publish_moving('and remembered');
my %is_moving = map { $_ => 1 } @moving;
is_deeply [grep { $is_moving{$_} } map { $_->[1]{id} } $to->client->entries($stream)], \@moving, 'in their order, each once, at the new owner';
push @answered, @moving, grep { defined } @batch_ids;
my @again = map { $_->{id} } publish_batch()->json->{results}->@*;
is_deeply [@again[1 .. 30]], [@batch_ids[1 .. 30]], 'the batch again: the ids of the first time';
ok defined $again[0], 'and the one that had been refused';

# The slot moves back. What needs several keys waits for the end of that, and is stored in its order.
my @waiting = map { my $client = $edge->nginx->connect; $client } 1 .. 2;
my $in_order = '[' . join(',', map { Headgate::Edge::event_body(ordering_key => 'moving', payload => { n => $_ }) } 1 .. 20) . ']';
my $refused = sub { my ($count) = $from->command('INFO', 'errorstats') =~ /errorstat_TRYAGAIN:count=(\d+)/; return $count // 0 };
$cluster->move_slot(
    $slot, $to, $from,
    sub () {
        my $before = $refused->();
        my @headers = $edge->headers(token => $token, headers => ['Idempotency-Key' => 'waits']);
        $waiting[0]->send_bytes(Headgate::Http->format_request('POST', '/events', headers => \@headers, body => Headgate::Edge::event_body(ordering_key => 'moving')));
        $waiting[1]->send_bytes(Headgate::Http->format_request('POST', '/batch', headers => \@headers, body => $in_order));
        $t->wait_for('Redis to say TRYAGAIN to all of them', sub { $refused->() >= $before + 21 });
    }
);
my ($event, $batch) = map { $_->read_response } @waiting;
is $event->status, 201, 'an event with an Idempotency-Key waits until its slot has moved' or diag $event->body;
is $batch->json->{accepted}, 20, 'and a batch' or diag $batch->body;
my @waited = map { $_->{id} } $batch->json->{results}->@*;
my %is_waited = map { $_ => 1 } @waited;
is_deeply [grep { $is_waited{$_} } map { $_->[1]{id} } $from->client->entries($stream)], \@waited, 'whose events are stored in their order, each once';
push @answered, $event->json->{id}, @waited;

# A limit's key moves: its command owns its bytes and is sent again by itself.
my $limited = $edge->add_key(plan => 'pro');
is $edge->publish(key => $limited)->status, 201, 'a limit before its slot moves';
my $limit_key = 'headgate:limit:{p:' . $edge->key_id($limited) . '}';
my $holder = $cluster->owner($limit_key);
my ($other) = grep { $_ != $holder } $cluster->masters;
$cluster->move_slot($holder->command('CLUSTER', 'KEYSLOT', $limit_key), $holder, $other, sub () { is $edge->publish(key => $limited)->status, 201, 'ASK to a limit' });
my $answer = $edge->publish(key => $limited);
is $answer->status, 201, 'MOVED to a limit';
like $answer->header('RateLimit'), qr/"minute";r=297/, 'it was charged once for each request';

# -- a master is killed under load -------------------------------------------------------------------
my $stop = $t->path('stop-load');
pipe my $read, my $write or die "pipe: $!";
my $pid = fork() // die "fork: $!";
if ($pid == 0) {
    my %all;
    @answered = ();
    my @requests = map { request_of('/events', ordering_key => "k$_") } 1 .. 200;
    while (!-e $stop) {
        my $got = Headgate::Load->run(port => $edge->nginx->port, connections => 8, requests => 100, bytes => sub ($n) { $requests[rand @requests] }, on_answer => \&note_answer);
        $all{$_} += $got->{$_} for keys %$got;
    }
    print {$write} JSON::PP::encode_json([\%all, \@answered]);
    close $write;
    POSIX::_exit(0);
}
close $write;
my $ok = eval {
    my $count = $cluster->event_count;
    $t->wait_for('some load', sub { $cluster->event_count > $count + 200 });
    my $dead    = $cluster->node(1);
    my $replica = $cluster->replica(1);
    $dead->crash;
    $t->wait_for('the cluster to promote its replica', sub { $replica->command('ROLE')->[0] eq 'master' }, 30);
    # The new master has no replica until the old one is back.
    $dead->restart;
    my %done;
    $t->wait_for(
        'every ordering key to be served again',
        sub {
            for (grep { !$done{$_} } 1 .. 40) {
                $done{$_} = 1 if $edge->publish(token => $token, body => Headgate::Edge::event_body(ordering_key => "k$_"))->status == 201;
            }
            return keys %done == 40;
        },
        30
    );
    1;
};
my $error = $@;
$t->write_file('stop-load', '');
my $report = do { local $/; JSON::PP::decode_json(<$read> || '[{},[]]') };
waitpid $pid, 0;
$t->die_with_logs($error) if !$ok;
push @answered, $report->[1]->@*;
is_deeply [grep { $_ ne 201 && $_ ne 503 } keys $report->[0]->%*], [], 'a master dies: the only error is 503' or diag explain $report->[0];
ok $report->[0]{503}, 'and there was some';
delete $_->{client} for $cluster->nodes;
account('after a failover');

# -- nginx starts anew, told only of the master that has become a replica ----------------------------
$edge->nginx->configure(http => $edge->nginx->{http} =~ s/headgate_redis \K[^;]* cluster=on/'127.0.0.1:' . $cluster->node(1)->port . ' cluster=on'/er);
$edge->nginx->restart;
$t->wait_for('the edge to be ready again', sub { $edge->publish(token => $token)->status == 201 });
pass 'one seed is enough, and it may be a replica';

$t->done;
