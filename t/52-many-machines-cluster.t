# Two to four `headgate serve` on one PostgreSQL and one Redis Cluster, 64 shards and 112 webhooks: each delivery once in
# the normal case, and whoever owns a lane keeps to the order of its keys, to the webhook's rate and to its requests in
# flight. One is killed, another stopped meanwhile and continued: nothing is lost, what comes twice is the same delivery, and the
# late one writes nothing.
use v5.36;
use List::Util qw(max sum0);
use Test::More;
use Time::HiRes qw(time);

use Headgate::Cluster;
use Headgate::Credentials qw(json);
use Headgate::Http;
use Headgate::Instances;
use Headgate::Postgres;
use Headgate::Receiver;
use Headgate::Test;

Headgate::Postgres->need;

my $LEASE_MS    = 10_000;
my $TAKE_OVER_S = 12;

my $t        = Headgate::Test->new;
my $postgres = Headgate::Postgres->start($t);
my $cluster  = Headgate::Cluster->start($t, replicas => 0);
my $receiver = Headgate::Receiver->start($t);
my $first    = $t->sidecar(redis => $cluster, redis_toml => "cluster = true\nshards = 64", store => $postgres->url)->serve->wait_until_healthy;
my $front    = $first->front(redis_address => $cluster->seeds . ' cluster=on', http => 'headgate_shards 64;');
my $all      = Headgate::Instances->new($t, sidecar => $first, front => $front, receiver => $receiver, shards => 64, publish_some => \&publish_some);

# ---- webhooks ------------------------------------------------------------------------------------

my $api = Headgate::Http->connect(port => $first->port);
my (%id_of, %paths_of);    # path => webhook; event type => paths

sub call ($method, $target, $body) {
    my $answer = $api->request($method, $target, headers => ['X-API-Key' => $first->api_key, 'Content-Type' => 'application/json'], body => json($body));
    $t->die_with_logs("$method $target: " . $answer->status . ' ' . $answer->body) if $answer->status >= 300;
    return $answer->json->{data}{webhook};
}
sub webhook ($path, $type, %members) {
    $id_of{$path} = call('POST', '/api/webhooks', { url => $receiver->url($path), events => [$type], %members })->{id};
    push $paths_of{$type}->@*, $path;
}
webhook("plain$_", 'plain.' . $_ % 10) for 1 .. 88;
my $RATE = 0.5;    # a second
my $BURST = 20;
for (1 .. 8) {
    webhook("ordered$_", 'ordered.made', ordering => 'key', ordering_policy => 'block');
    webhook("narrow$_",  'narrow.made', max_in_flight => 2);
    webhook("rated$_",   'rated.made', rate => "30r/m:$BURST");
    $receiver->answer("narrow$_", 200, 700);
}
is scalar(keys %id_of), 112, 'there are 112 webhooks';

# ---- events --------------------------------------------------------------------------------------

my (%key_of, %position_of, $published);    # of ordered events: id => key; id => its number
sub publish ($type, %members) { $all->publish($paths_of{$type}, type => $type, %members) }
sub publish_ordered () {
    my $number = keys %key_of;
    my $key    = 'k' . $number % 5;
    my $id     = publish('ordered.made', ordering_key => $key);
    ($key_of{$id}, $position_of{$id}) = ($key, $number);
}
my $narrow_at = 0;
# The load: one plain event at each call, for one in ten of the plain webhooks; the others now and then.
sub publish_some () {
    publish('plain.' . $published++ % 10);
    publish_ordered() if $published % 3 == 0;
    return if time < $narrow_at;
    publish('narrow.made') for 1 .. 3;
    $narrow_at = time + 2;
}
sub publish_load ($count) { publish_some() for 1 .. $count }
# More than the burst: what is left over goes out at the rate, whoever sends.
publish('rated.made') for 1 .. 60;
# They are never through before the rate is lifted.
sub missing () { scalar grep { !/\Arated/ } do { $all->missing; $all->{open}->@* } }
sub wait_for_all_but_rated ($seconds) { $t->wait_for('all deliveries but those of a rate', sub { !missing() }, $seconds) }

# ---- whom a webhook belongs to --------------------------------------------------------------------

my %lane_of;
sub find_lanes () {
    my %path_of = reverse %id_of;
    for my $row (split /\n/, $postgres->sql('SELECT DISTINCT webhook_id, lane FROM deliveries')) {
        my ($id, $lane) = split /\|/, $row;
        $lane_of{ $path_of{$id} } = "lane $lane";
    }
}
# Its paths among these, by the leases of the store.
sub paths_of_process ($process, $leases, $pattern) { grep { /$pattern/ && $leases->{ $lane_of{$_} }{pid} == $process->pid } sort keys %lane_of }

# ---- instances come ------------------------------------------------------------------------------

$all->publish_until_shared_by('the first to own everything', 20, $first->process);
my $at_first = $all->leases($postgres);
my $second   = $all->start('second');
$all->publish_until_shared_by('two to share evenly', 20, $first->process, $second);
pass 'two share evenly';
publish_load(20);
my $third = $all->start('third');
$all->publish_until_shared_by('three to share evenly', 20, $first->process, $second, $third);
pass 'three share evenly';
publish_load(30);
wait_for_all_but_rated(30);
is $all->repeated, 0, 'each delivery was made once while instances came' or diag explain $all->shares;
is $all->health($_)->status, 200, 'the ' . $_->name . ' is healthy with its share' for $second, $third;
find_lanes();
is scalar(keys %lane_of), 112, 'each webhook has had deliveries';
my $shared = $all->leases($postgres);
my @moved  = grep { $shared->{$_}{epoch} > $at_first->{$_}{epoch} } sort keys %$shared;
ok((grep { my $path = $_; grep { $_ eq $lane_of{$path} } @moved } grep { /^rated/ } keys %lane_of) > 0, 'a webhook with a rate has changed hands');

# ---- one is killed, another stopped at the same time, and comes back --------------------------------

# Every part that was the dead one's: is it another's, at the next epoch?
sub is_taken_over ($process, $before) {
    my $now = $all->leases($postgres);
    return !grep { $before->{$_}{pid} == $process->pid && $now->{$_}{pid} == $process->pid } keys %$before;
}
# Seconds from `at` to the next attempt of the slowest of its lanes, as the store has it. Each has work: what is published
# meanwhile waits for its owner.
sub longest_gap ($process, $before, $at) {
    my @lanes = map { /^lane (\d+)/ && $before->{$_}{pid} == $process->pid ? $1 : () } keys %$before;
    my $taken = $postgres->sql(sprintf 'SELECT max(next) FROM (SELECT min(a.started_at) AS next FROM attempts a JOIN deliveries d ON d.id = a.delivery_id'
        . ' JOIN webhooks w ON w.id = d.webhook_id WHERE a.started_at > %d AND w.rate = \'\' AND d.lane = ANY (ARRAY[%s]) GROUP BY d.lane) lanes', $at * 1000, join ',', @lanes);
    return $taken / 1000 - $at;
}
sub is_next_epoch ($process, $before) {
    my $now = $all->leases($postgres);
    return !grep { $before->{$_}{pid} == $process->pid && $now->{$_}{epoch} < $before->{$_}{epoch} + 1 } keys %$before;
}

my $fourth = $all->start('fourth');
$all->publish_until_shared_by('four to share evenly', 20, $first->process, $second, $third, $fourth);
publish_load(20);
wait_for_all_but_rated(30);

# The late one waits for answers that it will be too late to record.
my $before = $all->leases($postgres);
my %narrow_of = map { $_->pid => [paths_of_process($_, $before, qr/^narrow/)] } $second, $third, $fourth;
my ($late, $dead, $other) = sort { $narrow_of{ $b->pid }->@* <=> $narrow_of{ $a->pid }->@* } $second, $third, $fourth;
my @narrow = $narrow_of{ $late->pid }->@*;
ok @narrow > 0, 'the one to be late has webhooks whose endpoint takes its time';
my $seen = sub { $receiver->received; scalar map { $receiver->order($_) } @narrow };
my $arrived = $seen->();
publish('narrow.made') for 1 .. 2;
$t->wait_for('a request of the late one to be under way', sub { $seen->() > $arrived });
my $lost_at = time;
$late->signal('STOP');
$dead->crash;
$all->publish_until_shared_by('the others to own everything, one being stopped and one dead', 20, $first->process, $other);
pass 'two share evenly again after a death';
publish('plain.' . $_ % 10) for 1 .. 10;
wait_for_all_but_rated(30);
ok is_next_epoch($dead, $before), 'with the parts of the dead one at a later epoch';
my $gap = longest_gap($dead, $before, $lost_at);
cmp_ok $gap, '<=', $TAKE_OVER_S, "SIGKILL costs at most $TAKE_OVER_S seconds";
diag sprintf 'SIGKILL: the longest gap of a lane was %.1f s', $gap;
ok is_taken_over($late, $before) && is_next_epoch($late, $before), 'all parts of the stopped one have another owner, at a later epoch';
$gap = longest_gap($late, $before, $lost_at);
cmp_ok $gap, '<=', $TAKE_OVER_S, "SIGSTOP costs at most $TAKE_OVER_S seconds";
diag sprintf 'SIGSTOP: the longest gap of a lane was %.1f s, repeated %d', $gap, $all->repeated;
my $settled = $postgres->sql("SELECT count(*), max(started_at) FROM attempts WHERE started_at <= $lost_at * 1000");
$late->signal('CONT');
$t->wait_for('the late one to find out', sub { $late->log_text =~ /delivery\.late results=[1-9]/ }, 20);
pass 'what the stopped one came to know it may not write';
is $postgres->sql("SELECT count(*), max(started_at) FROM attempts WHERE started_at <= $lost_at * 1000"), $settled, 'and has not';
$all->publish_until_shared_by('three to share evenly after SIGCONT', 20, $first->process, $other, $late);
pass 'it has its share again';
publish_load(20);
wait_for_all_but_rated(30);

# ---- what was promised to each webhook -------------------------------------------------------------

my $wrong = 0;
for my $path (grep { /^ordered/ } sort keys %id_of) {
    my (%seen, %last);
    for my $arrival ($receiver->order($path)) {
        my ($id) = @$arrival;
        next if $seen{$id}++;
        my $key = $key_of{$id};
        $wrong++ if defined $last{$key} && $position_of{$id} < $last{$key};
        $last{$key} = $position_of{$id};
    }
}
is $wrong, 0, 'each key kept its order';
is max(map { $receiver->most_at_a_time($_) } grep { /^narrow/ } keys %id_of), 2, 'no more than two requests at a time where that is the limit, and as many';

# No span of time has more than the burst and what the rate lets go; the receiver may look a little late.
my $too_many = 0;
for my $path (grep { /^rated/ } sort keys %id_of) {
    my @times = map { $_->[1] } $receiver->order($path);
    for my $from (0 .. $#times) {
        for my $to ($from .. $#times) {
            my $over = $to - $from + 1 - $BURST - $RATE * ($times[$to] - $times[$from] + 3);
            $too_many = max($too_many, $over);
        }
    }
}
cmp_ok $too_many, '<=', 0, 'a rate holds through all changes of owners';
cmp_ok sum0(map { scalar $receiver->order($_) } grep { /^rated/ } keys %id_of), '>', 8 * 5, 'and what waits goes out at it';
call('PATCH', "/api/webhooks/$id_of{$_}", { rate => undef }) for grep { /^rated/ } sort keys %id_of;

# ---- the account ---------------------------------------------------------------------------------

$all->wait_for_all(40);
pass 'nothing is lost: all ' . $all->deliveries . ' deliveries have arrived';
is $all->unknown, 0, 'with the webhook-id that was promised, each where it belongs';
$t->wait_for('everything to be recorded', sub { $postgres->sql("SELECT count(*) FROM deliveries WHERE state = 'success'") == $all->deliveries }, 20);
is $postgres->sql('SELECT count(*) FROM events'), $all->events, 'each event is in the store once';
is $postgres->sql('SELECT count(*) FROM deliveries'), $all->deliveries, 'with one delivery for each webhook that wants it';
is $postgres->sql(q{SELECT count(*) FROM (SELECT delivery_id FROM attempts WHERE outcome = 'success' GROUP BY delivery_id HAVING count(*) > 1) twice}), 0,
    'no late instance recorded what the new owner had recorded';
is $postgres->sql('SELECT count(*) FROM quarantine'), 0, 'nothing was broken';
$t->wait_for('the streams to be empty', sub { $cluster->event_count == 0 });

$t->done;
