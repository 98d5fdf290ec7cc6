# Where nobody drains, the edge stops before Redis is full: above headgate_publish_backlog entries in an event's shard, or
# 80 % of maxmemory, the answer is 503 before anything is sent; and it recovers by itself.
use v5.36;
use Test::More;

use Time::HiRes qw(time);

use Headgate::Credentials qw(json);
use Headgate::Edge;
use Headgate::Load;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $redis = $t->redis(appendfsync => 'no');
my $edge  = Headgate::Edge->start(
    $t, redis => $redis, redis_options => 'timeout=10s connect_timeout=1s', workers => 4,
    locations => join '', map { "location = /$_->[0] { headgate_auth jwt; headgate_publish $_->[1]; headgate_publish_backlog 20; }" } [small => 'event'], [batch => 'batch'],
);
my $token = $edge->token;

sub event ($ordering_key) { return json({ type => 'a.b', source => 's', payload => {}, ordering_key => $ordering_key }) }
sub publish ($ordering_key, $target = '/small') { return $edge->publish(token => $token, body => event($ordering_key), target => $target) }
sub batch (@ordering_keys) { return $edge->publish(token => $token, body => '[' . join(',', map { event($_) } @ordering_keys) . ']', target => '/batch') }

# Two ordering keys of two shards.
publish("k$_") for 0 .. 7;
my %stream_of;
for my $stream ($redis->streams) { $stream_of{ $_->[1]{ord} } = $stream for $redis->client->entries($stream) }
my ($full, $free) = ('k0', (grep { $stream_of{$_} ne $stream_of{k0} } sort keys %stream_of)[0]);

# -- entries ----------------------------------------------------------------------------------------
my $answer = $t->wait_for('a shard to be full', sub { my $said = publish($full); $said->status == 503 ? $said : undef });
is $answer->header('Content-Type'), 'application/problem+json', '503: a problem';
like $answer->json->{detail}, qr/\AToo many events are waiting/, '... that says why';
like $answer->header('Retry-After'), qr/\A\d+\z/, '... with Retry-After';
my $length = $redis->command('XLEN', $stream_of{$full});
cmp_ok $length, '>', 20, 'the bound was passed before it was noticed';
my $polls = 0;
$t->wait_for('more looks', sub { publish($full)->status == 503 && ++$polls > 8 });
is $redis->command('XLEN', $stream_of{$full}), $length, 'and nothing more was sent';
is publish($free)->status, 201, 'another shard takes events';
is publish($full, '/events')->status, 201, 'and a location with a larger bound';

my $mixed = batch($full, $free, $full);
is $mixed->status, 200, 'a batch: what can be stored is';
is_deeply [map { $_->{status} } $mixed->json->{results}->@*], [503, undef, 503], '... and the rest is told so';
like $mixed->json->{results}[0]{error}, qr/\AToo many events are waiting/, '... and why';
my $none = batch($full, $full);
is $none->status, 503, 'a batch of which nothing can be stored';
like $none->header('Retry-After'), qr/\A\d+\z/, '... with Retry-After';

# -- drained ---------------------------------------------------------------------------------------------
$redis->command('XTRIM', $stream_of{$full}, 'MAXLEN', 20);
$t->wait_for('the shard to take events again', sub { publish($full)->status == 201 });
pass 'it recovers when somebody drains';

# -- what was seen long ago counts for nothing -------------------------------------------------------------
$t->wait_for('the shard to be full again', sub { publish($full)->status == 503 });
$redis->command('DEL', $redis->streams);
my $commands = sub { $edge->status->{redis}{commands} };
my ($last, $same) = (-1, 0);
# Only the refresh of once a second is left.
$t->wait_for('the looking to stop', sub { my $now = $commands->(); my $quiet = $now == $last; $last = $now; $quiet ? ++$same >= 5 : ($same = 0) }, 20);
pass 'who does not publish does not ask';
$t->wait_for('publishing', sub { publish($full)->status == 201 });

# -- memory -------------------------------------------------------------------------------------------------
my ($used) = $redis->command('INFO', 'memory') =~ /^used_memory:(\d+)/m;
$redis->command('CONFIG', 'SET', 'maxmemory', int $used * 1.5);
is publish($free)->status, 201, 'two thirds of maxmemory';
$polls = 0;
$t->wait_for('several looks', sub { publish($free)->status == 201 && ++$polls > 8 });
$redis->command('CONFIG', 'SET', 'maxmemory', int $used * 1.1);
$answer = $t->wait_for('Redis to be too full', sub { my $said = publish($free); $said->status == 503 ? $said : undef });
like $answer->json->{detail}, qr/\AToo many events are waiting/, 'over 80 % of maxmemory: 503 before Redis refuses';
is batch($free, $full)->status, 503, 'batches too';
is scalar(grep { /refused an event/ } split /\n/, $edge->nginx->error_text), 0, 'Redis had nothing to refuse';
$redis->command('CONFIG', 'SET', 'maxmemory', 0);
$t->wait_for('room again', sub { publish($free)->status == 201 });
pass 'and it recovers when there is room';

# -- one worker looks for all -----------------------------------------------------------------------------------
{
    my $xlens = sub { ($redis->command('INFO', 'commandstats') =~ /^cmdstat_xlen:calls=(\d+)/m)[0] };
    my $bytes = Headgate::Http->format_request('POST', '/events', headers => [$edge->headers(token => $token)], body => event($free));
    my ($before, $began) = ($xlens->(), time);
    my $counts = Headgate::Load->run(port => $edge->nginx->port, connections => 32, requests => 10_000, bytes => $bytes);
    my ($looks, $seconds) = (($xlens->() - $before) / 8, time - $began);
    is_deeply $counts, { 201 => 10_000 }, 'four workers publish';
    cmp_ok $looks, '<=', $seconds / 0.09 + 2, '... and no more than one look is taken in 90 ms';
    cmp_ok $looks, '>', 0, '... but some are';
}
is $edge->status->{published}{payload_bytes_copied}, 0, 'payload_bytes_copied';

$t->done;
