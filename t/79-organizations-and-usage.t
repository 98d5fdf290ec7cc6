# Organizations on the command line beside a running `serve` (`org suspend`, `resume`, `plan`), and how often keys were used:
# counted by the edge, carried into the store, each request once, whoever dies and whatever Redis forgets. On SQLite, or
# HEADGATE_TEST_ENGINE=postgres (t/80-organizations-and-usage-postgres.t).
use v5.36;
use Test::More;

use Headgate::Credentials qw(json);
use Headgate::Http;
use Headgate::Postgres;
use Headgate::Receiver;
use Headgate::Sidecar;
use Headgate::Test;

my $engine = $ENV{HEADGATE_TEST_ENGINE} // 'sqlite';
Headgate::Postgres->need if $engine eq 'postgres';

my $t        = Headgate::Test->new;
my $redis    = $t->redis;
my $receiver = Headgate::Receiver->start($t);

my @store = $engine eq 'postgres' ? (postgres => Headgate::Postgres->start($t)) : ();
my $h     = Headgate::Sidecar->init($t, redis => $redis, dir => $engine, @store)->serve->wait_until_healthy;
my $front = $h->front(name => "$engine-nginx");
my $acme  = $h->run_json('org', 'create', '--name', 'acme', '--plan', 'pro');
$h->run_json('org', 'allow-network', '--org', 'acme', '--network', '127.0.0.0/8');
my ($key, $other) = map { $h->run_json('key', 'create', '--org', 'acme', '--name', $_, '--scopes', 'admin') } 'used', 'never used';
my $revoked = $h->run_json('key', 'create', '--org', 'acme', '--name', 'revoked', '--scopes', 'events:write');
my $foreign = $h->api_key;

my $publish = sub (@credential) {
    return $front->request('POST', '/events', headers => ['Content-Type' => 'application/json', @credential], body => '{"type":"order.created","source":"cli","payload":{"n":1}}');
};
my $status = sub (@credential) { $publish->(@credential)->status };
my $listed = sub ($id) { (grep { $_->{id} eq $id } $h->run_json('key', 'list', '--org', 'acme')->@*)[0] };
my $usage_is = sub ($count, $what) {
    $t->wait_for("$engine: $what: a usage of $count", sub { $listed->($key->{id})->{usage_count} >= $count }, 20);
    is $listed->($key->{id})->{usage_count}, $count, "$engine: $what";
};
my $in_redis = "headgate:usage:{$key->{id}}";
my @with_key = ('X-API-Key' => $key->{api_key});

# -- usage ---------------------------------------------------------------------------------
$t->wait_for('the edge to know the key', sub { $front->request('GET', '/api/events', headers => \@with_key)->status == 200 }, 5);
$t->wait_for('it to be counted', sub { $redis->command('HGET', $in_redis, 'requests') });
my $asked = $redis->command('HGET', $in_redis, 'requests');
is $status->(@with_key), 201, "$engine: an event" for 1 .. 5;
is $front->request('POST', '/events', headers => ['Content-Type' => 'application/json', @with_key], body => '{}')->status, 422, '... and one that is none';
$t->wait_for('the edge to have told Redis', sub { $redis->command('HGET', $in_redis, 'requests') == $asked + 6 });
$usage_is->($asked + 6, 'every request with the key is counted');
my $last = $redis->command('HGET', $in_redis, 'last_used_at');
like $listed->($key->{id})->{last_used_at}, qr/\A\d{4}-\d\d-\d\dT.*Z\z/, '... with the time of the last';
my ($row) = $h->sql("SELECT usage_count, last_used_at FROM api_keys WHERE id = '$key->{id}'");
is_deeply $row, { usage_count => $asked + 6, last_used_at => $last }, '... which is that of the edge';
is_deeply [@{ $listed->($other->{id}) }{qw(usage_count last_used_at)}], [0, undef], 'a key that was never used has none';
ok !$redis->command('EXISTS', "headgate:usage:{$other->{id}}"), '... and no counter is made for it';

# On PostgreSQL the leases of a dead one would run for 10 s more: there it ends as it should.
$engine eq 'postgres' ? $h->process->stop : $h->crash;
is $status->(@with_key), 201, "$engine: an event while headgate is away" for 1 .. 3;
$t->wait_for('the edge to have told Redis', sub { $redis->command('HGET', $in_redis, 'requests') == $asked + 9 });
$h->serve->wait_until_healthy;
$usage_is->($asked + 9, 'behind another start what was counted is not counted again, and nothing is missing');
$redis->command('DEL', $in_redis);
is $status->(@with_key), 201, "$engine: an event behind the loss of the counter" for 1 .. 2;
$t->wait_for('the edge to have told Redis', sub { ($redis->command('HGET', $in_redis, 'requests') // 0) == 2 });
$usage_is->($asked + 11, 'a counter that begins anew is added');

# -- plan ----------------------------------------------------------------------------------
my $limit = sub () { $front->request('GET', '/api/events', headers => \@with_key)->header('X-RateLimit-Limit') };
is $limit->(), 300, "$engine: the organization's plan is the key's";
is $h->run_json('org', 'plan', 'acme', '--plan', 'free')->{plan}, 'free', 'org plan';
$t->wait_for('the edge to know the new plan', sub { $limit->() == 60 }, 2);
pass '... holds for its keys within a second or two';
my ($code, $said) = $h->run('org', 'plan', 'acme', '--plan', 'no plan');
is $code, 1, 'a plan that cannot be one is refused';
like $said, qr/headgate_plan/, '... and says why';
$h->run_json('org', 'plan', 'acme', '--plan', 'enterprise');

# -- suspend, resume -----------------------------------------------------------------------
my $token = $front->request(
    'POST', '/token', headers => ['Content-Type' => 'application/x-www-form-urlencoded'], body => "username=api&password=$key->{api_key}",
)->json->{access_token};
my @with_token = (Authorization => "Bearer $token");
is $status->(@with_token), 201, "$engine: a token made from the key" for 1 .. 2;
$h->run_json('key', 'revoke', $revoked->{id});

# A delivery that is being tried again and again.
$receiver->answer($engine => 500);
my $made = Headgate::Http->connect(port => $h->port)->request(
    'POST', '/api/webhooks', headers => [@with_key, 'Content-Type' => 'application/json'],
    body => json({ url => $receiver->url($engine), events => ['order.*'], retry_config => { schedule => [(1000) x 20] } }),
);
is $made->status, 201, 'a webhook' or diag $made->body;
my $id      = $publish->(@with_key)->json->{id};
my $arrived = sub () { scalar(($receiver->received->{"$engine $id"} // [])->@*) };
$t->wait_for('the first attempts', sub { $arrived->() >= 1 });

is $h->run_json('org', 'suspend', 'acme')->{suspended}, JSON::PP::true, 'org suspend';
$t->wait_for('the edge to refuse the key', sub { $status->(@with_key) == 401 }, 2);
$t->wait_for('the edge to refuse the token', sub { $status->(@with_token) == 401 }, 2);
pass "$engine: a suspended organization's key and token are refused at once";
is $status->('X-API-Key' => $foreign), 201, '... those of others are not';
my $api = sub () { Headgate::Http->connect(port => $h->port)->request('GET', '/api/webhooks', headers => \@with_key) };
$t->wait_for('the API to refuse the key', sub { $api->()->status == 403 }, 3);
like $api->()->body, qr/suspended/, '... and the management API says why';
my $new = $h->run_json('key', 'create', '--org', 'acme', '--name', 'made meanwhile', '--scopes', 'events:write');
$t->wait_for('the new key to be projected', sub { $redis->command('HGET', $_, 'id') && $redis->command('HGET', $_, 'id') eq $new->{id} and return 1 for $redis->command('KEYS', 'headgate:key:*')->@*; 0 });
is $status->('X-API-Key' => $new->{api_key}), 401, '... a key that is made meanwhile is refused as well';
my $state = sub () { ($h->sql("SELECT state, due_at, attempts FROM deliveries WHERE event_id = '$id'"))[0] };
$t->wait_for('the delivery to wait', sub { my $now = $state->(); $now->{state} eq 'retrying' && $now->{due_at} < (time - 1) * 1000 }, 15);
my ($before, $attempts) = ($arrived->(), $state->()->{attempts});
$receiver->answer($engine => 200);
$t->wait_for('another round of the dispatcher', sub { $state->()->{due_at} < (time - 2) * 1000 }, 10);
is $arrived->(), $before, "$engine: its deliveries wait, long after they were due";

# A Redis that forgets is told of the suspension again.
$redis->command('FLUSHALL');
$h->wait_until_healthy;
$t->wait_for('keys to be projected anew', sub { ($redis->command('HGET', 'headgate:meta', 'projected') // '') eq '1' });
$t->wait_for('the edge to know others again', sub { $status->('X-API-Key' => $foreign) == 201 }, 40);
is $status->(@with_key), 401, '... and the key is still refused when Redis has forgotten everything';
is $status->(@with_token), 401, '... and the token';

my @resume = $engine eq 'sqlite' ? ('org', 'resume', 'acme') : ('org', 'suspend', 'acme', '--undo');
is $h->run_json(@resume)->{suspended}, JSON::PP::false, "@resume";
$t->wait_for('the edge to take the key', sub { $status->(@with_key) == 201 }, 2);
$t->wait_for('the edge to take the token', sub { $status->(@with_token) == 201 }, 2);
$t->wait_for('the edge to take the key made meanwhile', sub { $status->('X-API-Key' => $new->{api_key}) == 201 }, 2);
pass "$engine: keys and tokens are good again at once";
is $status->('X-API-Key' => $revoked->{api_key}), 401, '... but for the one that was revoked';
$t->wait_for('the delivery', sub { $state->()->{state} eq 'success' }, 5);
is $arrived->(), $before + 1, '... and what waited is delivered';


$t->done;
