# One Redis for events and another for API keys and revocations: from publishing to delivery, a key made and taken back, and
# each of the two forgetting everything, alone.
use v5.36;
use Test::More;

use Headgate::Edge;
use Headgate::Receiver;
use Headgate::Test;

my $t        = Headgate::Test->new;
my $receiver = Headgate::Receiver->start($t);
my $events   = $t->redis;
my $keys     = $t->redis(name => 'keys');
my $sidecar  = $t->sidecar(redis => $events, redis_toml => 'keys_url = "' . $keys->url . '"');
$sidecar->run_json('webhook', 'create', '--org', $sidecar->org, '--url', $receiver->url('hook'), '--events', 'order.*');
$sidecar->serve->wait_until_healthy;
my $front = $sidecar->front(http => 'headgate_redis 127.0.0.1:' . $keys->port . " name=keys;\nheadgate_redis_use keys keys;\n");

sub publish ($key) {
    return $front->request('POST', '/events', headers => ['Content-Type' => 'application/json', 'X-API-Key' => $key], body => Headgate::Edge::event_body(type => 'order.created'));
}
sub arrives ($what, $key) {
    my $answer;
    $t->wait_for("$what: 201", sub { $answer = publish($key); $answer->status == 201 }, 15);
    my $id = $answer->json->{id};
    $t->wait_for("$what: its delivery", sub { $receiver->received->{"hook $id"} });
    pass "$what: published and delivered";
}
sub make_key ($name) {
    return $sidecar->run_json('key', 'create', '--org', $sidecar->org, '--name', $name, '--scopes', 'events:write', '--plan', 'pro');
}
sub meta ($redis) { my $all = $redis->command('HGETALL', 'headgate:meta'); return { @$all } }

# -- who has what ------------------------------------------------------------------------------------
arrives('the first key', $sidecar->api_key);
my $made = make_key('made');
arrives('a key made meanwhile', $made->{api_key});
is scalar($keys->command('KEYS', 'headgate:key:*')->@*), 2, 'keys lie in one';
is scalar($events->command('KEYS', 'headgate:key:*')->@*), 0, '... and not in the other';
is scalar(my @none = $keys->streams), 0, 'events lie in the other only';
my ($of_events, $of_keys) = map { meta($_) } $events, $keys;
is $of_events->{$_}, $of_keys->{$_}, "both agree on $_" for qw(contract shards pepper_fp);
is $of_keys->{projected}, '1', 'keys are projected in one';
is $of_events->{projected}, undef, '... and not in the other';

# -- the one with the events forgets --------------------------------------------------------------------
$events->command('FLUSHALL');
$t->wait_for('what both agreed on', sub { my $now = meta($events); !grep { ($now->{$_} // '') ne $of_events->{$_} } qw(contract shards pepper_fp) });
pass 'it knows again what was agreed';
arrives('after the events were forgotten', $made->{api_key});
is meta($keys)->{projected}, '1', 'the other was not touched';
$sidecar->wait_until_healthy;

# -- the one with the keys forgets ---------------------------------------------------------------------
$keys->command('FLUSHALL');
$t->wait_for('the keys', sub { 2 == $keys->command('KEYS', 'headgate:key:*')->@* && (meta($keys)->{projected} // '') eq '1' });
arrives('after the keys were forgotten', $made->{api_key});
is meta($keys)->{$_}, $of_keys->{$_}, "it has $_ again" for qw(contract shards pepper_fp);
arrives('a key made afterwards', make_key('later')->{api_key});
my ($code, $said) = $sidecar->run('key', 'revoke', $made->{id});
is $code, 0, 'a key is revoked' or diag $said;
$t->wait_for('the revoked key to be refused', sub { publish($made->{api_key})->status == 401 });
pass 'a revocation arrives';

# -- what belongs to another installation ----------------------------------------------------------------
$events->command('HSET', 'headgate:meta', 'pepper_fp', 'another');
$t->wait_for('the sidecar to tell', sub { $sidecar->process->log_text =~ /event=projection_failed error="headgate:meta in this Redis was written with another pepper/ });
pass 'another pepper in the one with the events is told';
make_key('last');
$t->wait_for('its keys', sub { 4 == $keys->command('KEYS', 'headgate:key:*')->@* });
pass '... and keys get to theirs all the same';

$t->done;
