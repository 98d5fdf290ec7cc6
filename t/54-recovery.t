# What an operator does when something was not delivered, by the API and by the command line: why, again, all of it again;
# and what comes back by itself when Redis has lost its memory, or part of it.
use v5.36;
use Test::More;
use Time::HiRes qw(time);

use Headgate::Credentials qw(json);
use Headgate::Edge;
use Headgate::Http;
use Headgate::Load;
use Headgate::Receiver;
use Headgate::Test;

my $t         = Headgate::Test->new;
my $redis     = $t->redis;
my $receiver  = Headgate::Receiver->start($t);
my $h         = $t->sidecar(redis => $redis)->serve->wait_until_healthy;
my $front     = $h->front;
my $key       = $h->api_key;
my $UNKNOWN   = '01930000-0000-7000-8000-000000000000';
my $stranger  = $h->run_json('org', 'create', '--name', 'stranger')->{id};
my $their_key = make_key($stranger, 'admin')->{api_key};

sub make_key ($org, $scopes) {
    return $h->run_json('key', 'create', '--org', $org, '--name', "k$scopes", '--scopes', $scopes, '--plan', 'enterprise');
}
sub call ($method, $target, $body = undef, $with = $key) {
    my @headers = ('X-API-Key' => $with);
    push @headers, 'Content-Type' => 'application/json' if defined $body;
    return Headgate::Http->connect(port => $h->port)->request($method, $target, headers => \@headers, defined $body ? (body => $body) : ());
}
sub data ($method, $target, $body = undef, $status = 200) {
    my $answer = call($method, $target, $body);
    is $answer->status, $status, "$method $target: $status" or diag $answer->body;
    return $answer->json->{data};
}
sub publish_as ($with, $type = 'order.created', $payload = { n => 1 }) {
    return $front->request(
        'POST', '/events', headers => ['Content-Type' => 'application/json', 'X-API-Key' => $with],
        body => Headgate::Edge::event_body(type => $type, payload => $payload),
    );
}
sub publish (@event) {
    my $answer = publish_as($key, @event);
    $t->die_with_logs('publishing: ' . $answer->status) if $answer->status != 201;
    return $answer->json->{id};
}
sub webhook ($path, %members) {
    my $made = call('POST', '/api/webhooks', json({ url => $receiver->url($path), events => ['order.*'], retry_config => { max_retries => 0 }, %members }));
    $t->die_with_logs("webhook $path: " . $made->body) if $made->status != 201;
    return $made->json->{data}{webhook}{id};
}
sub arrived ($path, $id) { scalar(($receiver->received->{"$path $id"} // [])->@*) }
sub wait_arrived ($path, $id) { $t->wait_for("$id to arrive at $path", sub { arrived($path, $id) }) }
sub delivery ($webhook, $event) {
    return call('GET', "/api/deliveries?webhook_id=$webhook&event_id=$event")->json->{data}{deliveries}[0];
}
sub wait_state ($webhook, $event, $state) {
    return $t->wait_for(
        "the delivery of $event to be $state",
        sub {
            my $found = delivery($webhook, $event);
            return $found && $found->{state} eq $state ? $found : undef;
        }
    );
}
sub fails_with ($code, $pattern, @words) {
    my ($got, $said) = $h->run(@words);
    is $got, $code, "headgate @words: exit $code" or diag $said;
    like $said, $pattern, '... and says why';
}

# ---- one delivery ------------------------------------------------------------------------------

my $a = webhook('a', timeout_seconds => 1);
my $wait = webhook('wait', retry_config => { schedule => [3_600_000] });
$receiver->answer($_, 500) for qw(a wait);
my $event = publish();
my $dead  = wait_state($a, $event, 'dead');
is $dead->{attempts}, 1, 'one attempt';
my $list = data('GET', "/api/deliveries?webhook_id=$a&state=dead");
is_deeply [map { $_->{id} } $list->{deliveries}->@*], [$dead->{id}], 'dead deliveries are listed';
is_deeply data('GET', "/api/deliveries?webhook_id=$a&state=success")->{deliveries}, [], 'by their state';
my $one = data('GET', "/api/deliveries/$dead->{id}");
is $one->{delivery}{state}, 'dead', 'one';
my ($attempt) = $one->{attempts}->@*;
is_deeply [@$attempt{qw(number outcome status_code error_type response_body)}], [1, 'dead', 500, 'http_500', 'status 500'], 'with its attempt';
is $attempt->{response_headers}{'content-length'} // $attempt->{response_headers}{'Content-Length'}, 10, 'the headers of the response';
ok keys $attempt->{request_headers}->%* > 2, 'and of the request' or diag explain $attempt;
unlike json($attempt->{request_headers}), qr/v1,[A-Za-z0-9+\/]{20}/, 'without the signature';
is_deeply data('GET', "/api/deliveries/$dead->{id}/attempts")->{attempts}, $one->{attempts}, 'attempts alone';

$receiver->answer(a => 200);
is data('POST', "/api/deliveries/$dead->{id}/retry", '{}')->{delivery}{state}, 'retrying', 'a dead one is retried';
wait_state($a, $event, 'success');
is scalar(data('GET', "/api/deliveries/$dead->{id}/attempts")->{attempts}->@*), 2, 'and succeeds';
is call('POST', "/api/deliveries/$dead->{id}/$_", '{}')->status, 409, "$_ of what has succeeded" for qw(retry cancel);

$receiver->answer(a => 0);
my $hangs  = publish();
my $flying = wait_state($a, $hangs, 'in_flight');
is call('POST', "/api/deliveries/$flying->{id}/$_", '{}')->status, 409, "$_ of one in flight" for qw(retry cancel);
is_deeply [map { $_->{verdict} } grep { $_->{webhook_id} eq $a } data('GET', "/api/events/$hangs/explain")->{webhooks}->@*], ['waiting'], 'explain: waiting';
wait_state($a, $hangs, 'dead');
$receiver->answer(a => 200);
is $h->run_json('delivery', 'retry', $flying->{id})->{state}, 'retrying', 'headgate delivery retry';
wait_state($a, $hangs, 'success');

my $waiting = wait_state($wait, $event, 'retrying');
is data('POST', "/api/deliveries/$waiting->{id}/cancel")->{delivery}{state}, 'cancelled', 'cancel';
is data('POST', "/api/deliveries/$waiting->{id}/cancel")->{delivery}{state}, 'cancelled', 'cancelling twice is no error';

# Pages by cursor.
my (@paged, $cursor);
do {
    my $page = data('GET', '/api/deliveries?limit=1' . (defined $cursor ? "&cursor=$cursor" : ''));
    push @paged, map { $_->{id} } $page->{deliveries}->@*;
    $cursor = $page->{next_cursor};
} while (defined $cursor);
my %seen = map { $_ => 1 } @paged;
is_deeply [scalar @paged, scalar keys %seen], [4, 4], 'pages of one: each delivery once';
is call('GET', "/api/deliveries?$_")->status, 422, $_ for 'state=nope', 'since=yesterday', 'cursor=x', 'limit=0', 'since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z';

# The command line.
my $shown = $h->run_json('delivery', 'list', '--org', $h->org, '--webhook', $a);
is scalar @$shown, 2, 'headgate delivery list';
is $h->run_json('delivery', 'show', $dead->{id})->{attempts}[0]{status_code}, 500, 'headgate delivery show --json';
my ($code, $said) = $h->run('delivery', 'show', $dead->{id});
like $said, qr/^state: success\n.*^number\toutcome.*^2\tsuccess/ms, 'and for people';
fails_with(1, qr/success/, 'delivery', 'retry', $dead->{id});
fails_with(1, qr/does not exist|no such/, 'delivery', 'show', $UNKNOWN);
fails_with(1, qr/--since/, 'delivery', 'list', '--org', $h->org, '--since', 'yesterday');
fails_with(2, qr/--state/, 'delivery', 'list', '--org', $h->org, '--state', 'nope');
fails_with(2, qr/id/, 'delivery', 'cancel');
is $h->run_json('delivery', 'retry', $waiting->{id})->{state}, 'retrying', 'what was cancelled can be retried';
$t->wait_for('the second attempt', sub { my $d = delivery($wait, $event); $d->{state} eq 'dead' && $d->{attempts} == 2 });
is $h->run_json('delivery', 'cancel', $waiting->{id})->{state}, 'cancelled', 'headgate delivery cancel';

# ---- events, and why ----------------------------------------------------------------------------

my $filtered = webhook('filtered', events => ['why.*'], filters => { n => 99 });
my $off      = webhook('off', events => ['why.*'], is_active => JSON::PP::false);
my $good     = webhook('good', events => ['why.asked']);
my $asked    = publish('why.asked', { n => 1 });
wait_arrived(good => $asked);
wait_state($good, $asked, 'success');
my $later = webhook('later', events => ['*']);
sub verdicts ($id) {
    return { map { $_->{webhook_id} => $_->{verdict} } data('GET', "/api/events/$id/explain")->{webhooks}->@* };
}
is_deeply verdicts($asked), {
    $a => 'type_not_subscribed', $wait => 'type_not_subscribed', $filtered => 'filtered', $off => 'disabled', $good => 'delivered', $later => 'created_later',
}, 'explain: each webhook and why';
is_deeply [@{ verdicts($event) }{ $a, $wait }], ['delivered', 'cancelled'], 'delivered and cancelled';
call('DELETE', "/api/webhooks/$later");
my $nobody = publish('nobody.cares');
my $why    = data('GET', "/api/events/$nobody/explain");
is_deeply [map { $_->{reason} } $why->{ledger}->@*], ['no_matching_webhook'], "with the ledger's reason";
my $unread = publish('why.unread', { n => 1 });
is data('GET', "/api/events/$unread/explain")->{ledger}[0]{reason}, 'filtered', 'filtered, says the ledger';
is data('GET', "/api/events/$asked")->{event}{payload}{n}, 1, 'one event with its payload';
is_deeply [map { $_->{id} } data('GET', '/api/events?type=why.*')->{events}->@*], [$unread, $asked], 'by type, newest first';
my $page = data('GET', '/api/events?limit=1&source=test');
is $page->{events}[0]{id}, $unread, 'a page';
isnt data('GET', "/api/events?limit=1&cursor=$page->{next_cursor}")->{events}[0]{id}, $unread, 'and the next';
is call('GET', '/api/events?cursor=x')->status, 422, 'a cursor that is none';
is scalar($h->run_json('event', 'list', '--org', $h->org, '--type', 'why.*')->@*), 2, 'headgate event list';
like +($h->run('event', 'tail', '--org', $h->org, '--since', '1h', '--type', 'why.*', '--count', 2))[1], qr/\Q$asked\E.*\n.*\Q$unread\E/, 'headgate event tail: oldest first';
like +($h->run('event', 'explain', $asked))[1], qr/^\Q$filtered\E\tfiltered|^\Q$filtered\E\t[^\t]*\tfiltered\t/m, 'headgate event explain';
fails_with(1, qr/does not exist|no such/, 'event', 'explain', $UNKNOWN);

# ---- a replay of 2,000, with a SIGKILL in its middle ------------------------------------------------

my $TOTAL = 2000;
my $since = iso(time - 3600);
sub iso ($at) { my @f = gmtime int $at; sprintf '%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', $f[5] + 1900, $f[4] + 1, @f[3, 2, 1, 0], 1000 * ($at - int $at) }

my %bulk;
Headgate::Load->run(
    port => $front->port, connections => 16, requests => $TOTAL,
    bytes => Headgate::Http->format_request(
        'POST', '/events', headers => ['Content-Type' => 'application/json', 'X-API-Key' => $key], body => Headgate::Edge::event_body(type => 'bulk.made'),
    ),
    on_answer => sub ($status, $body) { $bulk{$1} = 1 if $status == 201 && $body =~ /"id": ?"([^"]+)"/ },
);
is scalar keys %bulk, $TOTAL, "$TOTAL events are published";
# What is persisted after a webhook was made is matched with it.
$t->wait_for('all to be persisted', sub { $redis->event_count == 0 });
my $bulk = webhook('bulk', events => ['bulk.*']);
my $live = webhook('live', events => ['live.*']);
my $their_webhook = call('POST', '/api/webhooks', json({ url => 'https://example.com/', events => ['*'] }), $their_key)->json->{data}{webhook}{id};
sub replay_body (%members) { json({ since => $since, which => 'missing', %members }) }
sub dry_run (%members) { data('POST', "/api/webhooks/$bulk/replay", replay_body(dry_run => JSON::PP::true, %members))->{total} }
is dry_run(), $TOTAL, 'missing: the exact count';
is dry_run(which => 'failed'), 0, 'failed: none';
is dry_run(which => 'all'), $TOTAL, 'all';
is_deeply data('GET', "/api/webhooks/$bulk/replays")->{replays}, [], 'a dry run leaves nothing';
is call('POST', "/api/webhooks/$bulk/replay", $_)->status, 422, "replay $_" for
    '{}', replay_body(which => 'some'), replay_body(since => 'yesterday'), replay_body(until => '2000-01-01T00:00:00Z'), replay_body(dryrun => JSON::PP::true);

my $replay = data('POST', "/api/webhooks/$bulk/replay", replay_body(), 202)->{replay};
is_deeply [@$replay{qw(total state which)}], [$TOTAL, 'running', 'missing'], 'a replay runs';
sub progress () { call('GET', "/api/replays/$replay->{id}")->json->{data}{replay} }
sub distinct () { scalar grep { /\Abulk / } keys $receiver->received->%* }
$t->wait_for('the first deliveries', sub { distinct() >= 100 });
is data('POST', "/api/replays/$replay->{id}/pause")->{replay}{state}, 'paused', 'pause';
my $made = progress()->{made};
cmp_ok $made, '<', $TOTAL, 'in its middle';
$t->wait_for('what was made to be sent', sub { progress()->{succeeded} == $made });
is progress()->{made}, $made, 'a paused replay makes nothing';
wait_arrived(live => publish('live.one'));
is data('POST', "/api/replays/$replay->{id}/resume")->{replay}{state}, 'running', 'resume';
$t->wait_for('it to go on', sub { distinct() >= $made + 200 });
$h->crash;
my $at_crash = distinct();
cmp_ok $at_crash, '<', $TOTAL, 'SIGKILL in the middle of it';
$h->serve;
# Live events come first: they arrive while the replay runs.
my $alive = 0;
for (1 .. 5) {
    my $id = publish('live.more');
    wait_arrived(live => $id);
    $alive++ if progress()->{state} eq 'running';
}
ok $alive > 0, 'live events arrive while the replay runs';
$t->wait_for('the replay to end', sub { my $p = progress(); $p->{state} eq 'done' && $p->{succeeded} + $p->{failed} == $TOTAL }, 30);
is_deeply [@{ progress() }{qw(total made succeeded failed)}], [$TOTAL, $TOTAL, $TOTAL, 0], 'each as it was counted';
my $received = $receiver->received;
is scalar(grep { !$received->{"bulk $_"} } keys %bulk), 0, 'every event has arrived';
is distinct(), $TOTAL, 'and no other';
my $repeated = grep { /\Abulk / && $received->{$_}->@* > 1 } keys %$received;
# Twice its max_in_flight are held of a webhook, and as many that have been answered may wait for the next transaction.
cmp_ok $repeated, '<=', 2 * 32, "what was in flight or not yet recorded at the SIGKILL came again: $repeated";
is dry_run(), 0, 'nothing is missing any more';
is call('POST', "/api/replays/$replay->{id}/$_")->status, 409, "$_ of what has ended" for qw(pause resume cancel);
is data('GET', "/api/webhooks/$bulk/replays")->{replays}[0]{id}, $replay->{id}, 'the replays of a webhook';

# ---- failed, and all, by the command line -------------------------------------------------------------

my $from = iso(time - 0.001);
$receiver->answer(bulk => 500);
my @failed = map { publish('bulk.made') } 1 .. 3;
wait_state($bulk, $_, 'dead') for @failed;
is dry_run(which => 'failed'), 3, 'failed: the exact count';
is_deeply [@{ verdicts($failed[0]) }{$bulk}], ['dead'], 'explain: dead';
fails_with(1, qr/3 of 3 deliveries failed/, 'event', 'replay', '--webhook', $bulk, '--since', $from, '--which', 'failed', '--wait');
$receiver->answer(bulk => 200);
my $again = $h->run_json('event', 'replay', '--webhook', $bulk, '--since', $from, '--which', 'failed', '--wait');
is_deeply [@$again{qw(state total succeeded failed)}], ['done', 3, 3, 0], 'headgate event replay --wait';
is $h->run_json('event', 'replay', '--webhook', $bulk, '--since', $from, '--which', 'all', '--dry-run')->{total}, 3, 'all of a range';
is scalar($h->run_json('event', 'replay', '--list', $bulk)->@*), 3, 'its replays';
fails_with(2, qr/--webhook|--list/, 'event', 'replay');
fails_with(2, qr/--since/, 'event', 'replay', '--webhook', $bulk);
fails_with(1, qr/does not exist|no such/, 'event', 'replay', '--show', $UNKNOWN);

# ---- whose it is -------------------------------------------------------------------------------------

my $mine = $dead->{id};
for my $target (
    "GET /api/deliveries/$mine", "GET /api/deliveries/$mine/attempts", "POST /api/deliveries/$mine/retry", "POST /api/deliveries/$mine/cancel",
    "GET /api/deliveries?webhook_id=$a", "GET /api/deliveries?event_id=$event", "POST /api/webhooks/$bulk/replay", "GET /api/webhooks/$bulk/replays",
    "GET /api/replays/$replay->{id}", map({ "POST /api/replays/$replay->{id}/$_" } qw(pause resume cancel)), "GET /api/events/$event", "GET /api/events/$event/explain",
) {
    my ($method, $path) = split / /, $target;
    my $body = $path =~ /replay\z/ ? replay_body() : $method eq 'POST' ? '{}' : undef;
    is call($method, $path, $body, $their_key)->status, 404, "$target with another organization's key: 404";
    is call($method, $path =~ s/\Q$_\E/$UNKNOWN/r, $body)->status, 404, '... as one that does not exist' for $path =~ /([0-9a-f-]{36})/;
}
is call('POST', "/api/webhooks/$their_webhook/replay", replay_body(dry_run => JSON::PP::true))->status, 404, "a dry run for another organization's webhook";
is_deeply call('GET', '/api/deliveries', undef, $their_key)->json->{data}{deliveries}, [], 'another organization has no deliveries';
is_deeply call('GET', '/api/events', undef, $their_key)->json->{data}{events}, [], 'and no events';
my $reader = make_key($h->org, 'webhooks:read events:read')->{api_key};
$t->wait_for('the reader', sub { call('GET', '/api/events', undef, $reader)->status == 200 });
is call('POST', $_, '{}', $reader)->status, 403, "$_ needs webhooks:write" for "/api/deliveries/$mine/retry", "/api/deliveries/$mine/cancel",
    "/api/webhooks/$bulk/replay", map { "/api/replays/$replay->{id}/$_" } qw(pause resume cancel);
my $publisher = make_key($h->org, 'events:write');
is call('GET', $_, undef, $publisher->{api_key})->status, 403, "$_ needs a scope to read" for '/api/deliveries', '/api/events', "/api/events/$event/explain";

# ---- Redis has lost its memory ------------------------------------------------------------------------

$h->wait_until_healthy;
$h->run_json('key', 'revoke', $publisher->{id});
$t->wait_for('the revocation', sub { publish_as($publisher->{api_key})->status == 401 });
my %before = map { $_ => 1 } grep { /\Aheadgate:(?:key:|revoked|meta)/ } $redis->command('KEYS', 'headgate:*')->@*;
$redis->command('FLUSHALL');
my $after;
$t->wait_for('the road to work again', sub { my $answer = publish_as($key, 'live.after'); $answer->status == 201 && ($after = $answer->json->{id}) });
wait_arrived(live => $after);
$t->wait_for('keys and revocations to be projected', sub { !grep { !$redis->command('EXISTS', $_) } keys %before });
pass 'after FLUSHALL keys, revocations and groups are there again';
is publish_as($publisher->{api_key})->status, 401, 'what was revoked stays so';
is scalar(grep { $redis->command('XINFO', 'GROUPS', $_)->@* != 1 } $redis->streams), 0, 'each stream has its group';

# ---- a Redis restored from an older snapshot ----------------------------------------------------------

$h->process->stop;
my @old  = map { publish('live.old') } 1 .. 20;
my $data = "$redis->{dir}/appendonlydir";
$redis->stop;
system('cp', '-r', $data, "$redis->{dir}/snapshot") == 0 or die 'cp';
$redis->restart;
$h->serve;
wait_arrived(live => $_) for @old;
$t->wait_for('the streams to be empty', sub { $redis->event_count == 0 });
$redis->stop;
system('rm', '-r', $data) == 0 && system('mv', "$redis->{dir}/snapshot", $data) == 0 or die 'mv';
$redis->restart;
is $redis->event_count, 20, 'an older Redis has the entries again';
$t->wait_for('them to be drained again', sub { $redis->event_count == 0 });
$t->wait_for('the edge to be ready', sub { publish_as($key, 'live.last')->status == 201 });
is scalar(grep { arrived(live => $_) != 1 } @old), 0, 'no event is delivered a second time';
is $h->sql_value("SELECT count(*) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE e.type = 'live.old'"), 20, 'nor persisted';

$t->done;
