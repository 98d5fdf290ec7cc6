# The management API behind nginx: token, inbox, acknowledgement, webhooks, in their shapes, each scoped
# to the organization of the credential.
use v5.36;
use Test::More;
use Time::HiRes qw(time);

use Headgate::Credentials qw(json);
use Headgate::Test;

my $t       = Headgate::Test->new;
my $sidecar = $t->sidecar->serve->wait_until_healthy;
my $front   = $sidecar->front;
my $key     = $sidecar->api_key;
my $other   = $sidecar->run_json('org', 'create', '--name', 'other');
my $other_id = $other->{id} // $other->{org};
my $other_key = $sidecar->run_json('key', 'create', '--org', $other_id, '--name', 'admin', '--scopes', 'admin', '--plan', 'enterprise')->{api_key};

sub call ($method, $target, $key, $body = undef, @headers) {
    my @all = (defined $key ? ('X-API-Key' => $key) : (), @headers);
    push @all, 'Content-Type' => 'application/json' if defined $body && !grep { /content-type/i } @headers;
    return $front->request($method, $target, headers => \@all, defined $body ? (body => $body) : ());
}
sub is_problem ($answer, $status, $name) {
    is $answer->status, $status, "$name: $status" or diag $answer->body;
    is $answer->header('Content-Type'), 'application/problem+json', "$name: problem+json";
    my $body = eval { $answer->json } // {};
    is_deeply [@$body{qw(status success)}], [$status, JSON::PP::false], "$name: status and success";
    ok length($body->{detail} // '') && $body->{detail} eq ($body->{error} // ''), "$name: detail and error";
}
$t->wait_for('the second key to be at the edge', sub { call('GET', '/inbox', $other_key)->status == 200 });

# -- health ------------------------------------------------------------------------------------
is call('GET', '/health', undef)->status, 200, 'GET /health without a credential';
is call('GET', '/health/', undef)->status, 200, 'with a trailing slash';

# -- token -------------------------------------------------------------------------------------
sub form (%fields) { join '&', map { my $v = $fields{$_} =~ s/([^A-Za-z0-9_.-])/sprintf '%%%02X', ord $1/ger; "$_=$v" } sort keys %fields }
my @form = ('Content-Type' => 'application/x-www-form-urlencoded');
my $answer = call('POST', '/token', undef, form(username => 'api', password => $key), @form);
is $answer->status, 200, 'POST /token' or diag $answer->body;
my $token = $answer->json;
is $token->{token_type} =~ tr/B/b/r, 'bearer', 'token_type';
is $token->{expires_in}, 86_400, 'expires_in';
is $token->{scope}, 'admin', 'scope';
like $token->{access_token}, qr/\A[\w-]+\.[\w-]+\.[\w-]+\z/, 'access_token';
like $answer->header('Cache-Control') // '', qr/no-store/, 'never cached';
is call('POST', '/token', undef, form(grant_type => 'client_credentials', client_id => 'api', client_secret => $key), @form)->status, 200,
    'client_credentials';
is call('POST', '/token', undef, form(username => 'api', password => $key, scope => 'events:write inbox:read'), @form)->json->{scope},
    'events:write inbox:read', 'the scopes that were asked for';
# An admin key was given a token with any text as its scope.
for my $scope ('anything goes', 'a:b,c:d', ' ', 'a:b  c:d', 'a:b ', '*:*', join(' ', ('events:write') x 65)) {
    $answer = call('POST', '/token', undef, form(username => 'api', password => $key, scope => $scope), @form);
    is $answer->status, 400, "scope '" . substr($scope, 0, 20) . "'";
    is $answer->json->{error}, 'invalid_scope', '... is invalid_scope';
}
$answer = call('POST', '/token', undef, form(username => 'api', password => 'wrong'), @form);
is $answer->status, 401, 'a wrong key';
is $answer->header('Content-Type'), 'application/problem+json', 'a wrong key: problem+json';
like $answer->json->{error}, qr/\Ainvalid_(?:client|grant)\z/, 'a wrong key: the error code of RFC 6749';

# The token is good at the edge and at the API.
my @bearer = (Authorization => "Bearer $token->{access_token}");
is call('GET', '/inbox', undef, undef, @bearer)->status, 200, 'the token opens the API';
$answer = call('POST', '/events', undef, json({ type => 'token.used', source => 't', payload => { a => 1 } }), @bearer);
is $answer->status, 201, 'and publishes' or diag $answer->body;

# -- inbox -------------------------------------------------------------------------------------
# The order is that of milliseconds: events of one and the same may lie in different shards.
my @ids = $answer->json->{id};
for my $n (2 .. 4) {
    my $millisecond = int(time * 1000);
    $t->wait_for('the next millisecond', sub { int(time * 1000) > $millisecond + 1 });
    push @ids, call('POST', '/events', $key, qq({"type":"inbox.test","source":"s$n","payload":{"n":$n, "big":12345678901234567890}}))->json->{id};
}
$answer = call('GET', '/inbox', $key);
is $answer->status, 200, 'GET /inbox';
my $inbox = $answer->json;
is ref $inbox, 'ARRAY', 'a bare array';
is_deeply [map { $_->{id} } @$inbox], [reverse @ids], 'shows what was answered 201, newest first';
is_deeply [sort keys $inbox->[0]->%*], [qw(created_at id payload source status type updated_at)], 'members';
like $inbox->[0]{created_at}, qr/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\z/, 'created_at';
is $inbox->[0]{status}, 'pending', 'pending';
like $answer->body, qr/12345678901234567890/, 'numbers are left as they came';
is scalar(call('GET', '/inbox?limit=2', $key)->json->@*), 2, 'limit';
is_deeply call('GET', '/inbox', $other_key)->json, [], 'another organization sees nothing of it';
is_problem(call('GET', '/inbox?limit=0', $key), 422, 'limit 0') if call('GET', '/inbox?limit=0', $key)->status == 422;
is_problem(call('GET', '/inbox', undef), 401, 'no credential');

# -- acknowledgement ---------------------------------------------------------------------------
is_problem(call('POST', "/inbox/$ids[0]/ack", $other_key, '{}'), 404, "another organization's event");
for my $body (undef, '{}', '{}') {
    $answer = call('POST', "/inbox/$ids[0]/ack", $key, $body);
    is $answer->status, 200, 'acknowledged, and again' or diag $answer->body;
    is_deeply [@{ $answer->json }{qw(id status)}], [$ids[0], 'delivered'], 'id and status';
}
# As `curl -d '{}'` sends it; was a 415.
is call('POST', "/inbox/$ids[0]/ack", $key, ' { } ', 'Content-Type' => 'application/x-www-form-urlencoded')->status, 200,
    'an empty object, whatever its type';
is_problem(call('POST', "/inbox/$ids[0]/ack", $key, '{"a":1}', 'Content-Type' => 'text/plain'), 415, 'a body of another type');
is_deeply [map { $_->{id} } call('GET', '/inbox', $key)->json->@*], [reverse @ids[1 .. 3]], 'it has left the inbox';
is_problem(call('POST', '/inbox/01930000-0000-7000-8000-000000000000/ack', $key, '{}'), 404, 'an unknown event');

# -- webhooks ----------------------------------------------------------------------------------
my $wanted = {
    name => 'Orders', description => 'to the shop', url => 'https://example.com/hook', events => ['order.created', 'order.*'],
    headers => { 'X-Team' => 'shop', Authorization => 'Bearer secret-of-theirs' }, is_active => JSON::PP::true,
    retry_config => { max_retries => 3, retry_delay => 5000, backoff_multiplier => 2 }, filters => { order_status => ['paid'], min_amount => 100 },
};
$answer = call('POST', '/api/webhooks/', $key, json($wanted));
is $answer->status, 201, 'POST /api/webhooks/' or diag $answer->body;
my $created = $answer->json;
is $created->{success}, JSON::PP::true, 'success';
is $created->{message}, 'Webhook created successfully', 'message';
my $webhook = $created->{data}{webhook};
is $webhook->{$_}, $wanted->{$_}, $_ for qw(name description url);
is_deeply $webhook->{$_}, $wanted->{$_}, $_ for qw(events retry_config filters);
like $webhook->{secret}, qr{\Awhsec_[A-Za-z0-9+/]+=*\z}, 'the secret, once';
is_deeply [@$webhook{qw(last_triggered success_count failure_count)}], [undef, 0, 0], 'counters';
unlike $answer->body, qr/secret-of-theirs/, 'Authorization is not echoed';

$answer = call('GET', '/api/webhooks', $key);
is $answer->status, 200, 'GET /api/webhooks, without the slash';
my $list = $answer->json->{data};
is $list->{total}, 1, 'total';
is_deeply [sort keys $list->{summary}->%*], [qw(active_webhooks avg_success_rate total_events total_webhooks)], 'summary';
my %listed = map { $_ => 1 } keys $list->{webhooks}[0]->%*;
ok $listed{$_}, "listed: $_" for qw(id name description url events is_active created_at last_triggered success_count failure_count success_rate);
ok !$listed{secret}, 'no secret in the list';
is_deeply [$list->{webhooks}[0]{success_rate}, $list->{summary}{avg_success_rate}], [undef, undef], 'without a finished delivery there is no rate';
# Deliveries, not attempts: 100 * s / (s + f), to one decimal; the average is of the webhooks that have one.
sub finished_deliveries ($total, $failed) { $sidecar->change("UPDATE webhooks SET total_deliveries = $total, failed_deliveries = $failed WHERE id = '$webhook->{id}'") }
for ([3, 1, 66.7], [3, 0, 100], [2, 2, 0], [2000, 1, 100], [1000, 1, 99.9]) {
    my ($total, $failed, $rate) = @$_;
    finished_deliveries($total, $failed);
    my $shown = call('GET', '/api/webhooks', $key)->json->{data};
    is_deeply [$shown->{webhooks}[0]->@{qw(success_rate success_count failure_count)}, $shown->{summary}{avg_success_rate}], [$rate, $total - $failed, $failed, $rate],
        "success_rate of $total deliveries of which $failed failed: $rate";
    is call('GET', "/api/webhooks/$webhook->{id}", $key)->json->{data}{webhook}{success_rate}, $rate, '... and of one webhook';
}
finished_deliveries(0, 0);
is call('GET', '/api/webhooks/?status=inactive', $key)->json->{data}{total}, 0, 'status=inactive';
is call('GET', '/api/webhooks/', $other_key)->json->{data}{total}, 0, 'another organization has none';

my $path = "/api/webhooks/$webhook->{id}/";
$answer = call('GET', $path, $key);
is $answer->status, 200, 'GET one';
my $one = $answer->json->{data}{webhook} // $answer->json->{data};
ok exists $one->{$_}, "one: $_" for qw(updated_at success_rate delivery_stats retry_config filters headers);
is $one->{success_rate}, undef, 'success_rate: null again';
is_deeply [sort keys $one->{delivery_stats}->%*],
    [qw(avg_response_time failed_deliveries last_response_time successful_deliveries total_deliveries)], 'delivery_stats';
unlike $answer->body, qr/whsec_[A-Za-z0-9+\/]{20}|secret-of-theirs/, 'no secret is shown again';
is_problem(call('GET', $path, $other_key), 404, "another organization's webhook");
is_problem(call('DELETE', $path, $other_key), 404, "deleting another organization's webhook");

# What cannot be a webhook.
my %bad = (
    'no url' => { url => undef }, 'a private address' => { url => 'https://10.0.0.1/' },
    'metadata' => { url => 'https://169.254.169.254/' }, 'user and password' => { url => 'https://a:b@example.com/' },
    'no events' => { events => [] }, 'an empty pattern' => { events => [''] }, 'a broken filter' => { filters => { '$nope' => 1 } },
    'a retry delay of 0' => { retry_config => { retry_delay => 0 } },
    'too many retries' => { retry_config => { max_retries => 1000 } }, 'a line break in a header' => { headers => { 'X-A' => "a\r\nB: c" } },
);
for my $name (sort keys %bad) {
    my %body = (%$wanted, $bad{$name}->%*);
    delete @body{ grep { !defined $body{$_} } keys %body };
    is_problem(call('POST', '/api/webhooks/', $key, json(\%body)), 422, "webhook with $name");
}
# The choices: as they are shown, and what is refused of them.
my %choices = (
    ordering => 'key', ordering_policy => 'block', payload_format => 'template', body_template => '{"a":{{payload.x}}}', content_type => 'application/json',
    rate => '600r/m', signature_style => 'github', timeout_seconds => 7, max_in_flight => 3, sign_ed25519 => JSON::PP::true,
);
$answer = call('POST', '/api/webhooks/', $key, json({ %$wanted, %choices }));
is $answer->status, 201, 'a webhook with every choice' or diag $answer->body;
my $chosen = $answer->json->{data}{webhook};
is_deeply { map { $_ => $chosen->{$_} } keys %choices }, \%choices, 'shown as they were given';
like $chosen->{public_key}, qr/\Awhpk_[A-Za-z0-9+\/]{43}=\z/, 'with the public key';
my %refused = (
    'a template without its text' => [{ payload_format => 'template' }, qr/body_template is required/],
    'a text without the format' => [{ body_template => '{}' }, qr/body_template needs "payload_format"/],
    'a template that is no JSON' => [{ payload_format => 'template', body_template => "{\n {{type}}" }, qr/line 2, column \d+: not JSON/],
    'a section' => [{ payload_format => 'template', body_template => '{{#a}}1{{/a}}' }, qr/line 1, column 1: only \{\{name\}\}/],
    'an unknown name' => [{ payload_format => 'template', body_template => '{{paylod.a}}' }, qr/nearest known name is payload/],
    'JSON as a form' => [{ payload_format => 'template', body_template => '{"a":1}', content_type => 'application/x-www-form-urlencoded' }, qr/column 1: a form has/],
    'an unknown format' => [{ payload_format => 'xml' }, qr/payload_format must be/], 'an unknown type' => [{ content_type => 'text/xml' }, qr/content_type must be/],
    'an unknown style' => [{ signature_style => 'paypal' }, qr/signature_style must be/],
    "a style's own header" => [{ signature_style => 'github', headers => { 'x-github-event' => 'ping' } }, qr/signature_style/],
    'two windows' => [{ rate => '1r/s+2r/m' }, qr/rate must be one window/], 'no rate' => [{ rate => 5 }, qr/rate must be one window/],
    'a policy without ordering' => [{ ordering_policy => 'skip' }, qr/ordering_policy needs/], 'an unknown policy' => [{ ordering => 'key', ordering_policy => 'wait' }, qr/ordering_policy must be/],
    'a key that is none' => [{ ed25519_key => 'whsk_AAAA' }, qr/ed25519_key must be/], 'a line break in a name' => [{ name => "a\r\nb" }, qr/control characters/],
    'a header of ours' => [{ headers => { 'Webhook-Id' => '1' } }, qr/webhook-id|Webhook-Id/], 'a line break in an event' => [{ events => ["a\r\nb"] }, qr/event/i],
);
for my $name (sort keys %refused) {
    my ($members, $why) = $refused{$name}->@*;
    $answer = call('POST', '/api/webhooks/', $key, json({ %$wanted, %$members }));
    is_problem($answer, 422, "webhook with $name");
    like $answer->body =~ s/\\"/"/gr, $why, '... and why';
}

# -- changes -----------------------------------------------------------------------------------
my $changing = "/api/webhooks/$chosen->{id}/";
my $etag = call('GET', $changing, $key)->header('ETag');
$answer = call('PATCH', $changing, $key, json({ name => 'Other', rate => undef, headers => { 'X-Team' => undef, 'X-New' => 'n' }, ordering => undef, is_active => JSON::PP::false }), 'If-Match' => $etag);
is $answer->status, 200, 'PATCH' or diag $answer->body;
my $changed = $answer->json->{data}{webhook};
is_deeply [@$changed{qw(name rate ordering ordering_policy is_active url payload_format)}], ['Other', undef, undef, undef, JSON::PP::false, $wanted->{url}, 'template'], 'what was given is changed, the rest is not';
is_deeply [sort keys $changed->{headers}->%*], ['X-New'], 'headers are merged, values hidden';
is_deeply $changed->{retry_config}, $wanted->{retry_config}, 'the retries stay';
is_deeply $changed->{filters}, $wanted->{filters}, 'and the filters';
is $changed->{public_key}, $chosen->{public_key}, 'and the key pair';
isnt $answer->header('ETag'), $etag, 'another version';
is_problem(call('PATCH', $changing, $key, '{"name":"x"}', 'If-Match' => $etag), 412, 'an older version');
is_problem(call('PATCH', $changing, $other_key, '{"name":"x"}'), 404, "another organization's webhook, changed");
is_problem(call('POST', "${changing}rotate-secret", $other_key), 404, '... or rotated');
is_problem(call('POST', "${changing}rotate-key-pair", $other_key), 404, '... or its key pair');
for my $bad ('{"secret":"0123456789abcdef"}', '{"nmae":"x"}', '{"url":"https://10.0.0.1/"}', '{"events":[]}', '{"events":null}', '{"url":null}', '{"content_type":"application/x-www-form-urlencoded"}', '{"headers":{"X-GitHub-Event":"x"}}') {
    is_problem(call('PATCH', $changing, $key, $bad), 422, "PATCH $bad");
}
is call('PATCH', $changing, $key, '{"payload_format":"raw","is_active":true}')->json->{data}{webhook}{body_template}, undef, 'the template went with its format';
is call('DELETE', $changing, $key)->status, 200, 'deleted';

# This organization may reach no network that is not public, so nothing but https.
is_problem(call('POST', '/api/webhooks/', $other_key, json({ %$wanted, url => $_ })), 422, "webhook to $_")
    for 'http://example.com/', 'http://127.0.0.1:9000/', 'https://127.0.0.1/';
is_problem(call('POST', '/api/webhooks/', $key, '{'), 400, 'not JSON');
is_problem(call('PATCH', '/api/webhooks/', $key, '{}'), 405, 'a method that is not served');

my $reader = $sidecar->run_json('key', 'create', '--org', $sidecar->org, '--name', 'reader', '--scopes', 'webhooks:read', '--plan', 'pro')->{api_key};
$t->wait_for('the reader to be at the edge', sub { call('GET', '/api/webhooks/', $reader)->status == 200 });
is_problem(call('DELETE', $path, $reader), 403, 'a key that may only read');
is_problem(call('PATCH', $path, $reader, '{}'), 403, '... may not change');
is_problem(call('POST', "${path}rotate-secret/", $reader), 403, '... or rotate');
is_problem(call('GET', '/inbox', $reader), 403, 'and only webhooks');

is call('DELETE', $path, $key)->status =~ /\A20[04]\z/, 1, 'DELETE';
is_problem(call('GET', $path, $key), 404, 'a deleted webhook');

# -- revocation --------------------------------------------------------------------------------
my $doomed = $sidecar->run_json('key', 'create', '--org', $sidecar->org, '--name', 'doomed', '--scopes', 'events:write', '--plan', 'pro');
my $event  = '{"type":"a.b","source":"s","payload":{}}';
$t->wait_for('the key to be good', sub { call('POST', '/events', $doomed->{api_key}, $event)->status == 201 });
$sidecar->run_json('key', 'revoke', $doomed->{id});
$t->wait_for('the key to be refused', sub { call('POST', '/events', $doomed->{api_key}, $event)->status == 401 });
pass 'a revoked key is refused at the edge';

# -- a Redis that answers but lets nobody read ---------------------------------------------------
# /health stayed 200 while nothing was drained: each refusal counted as a sign of life.
sub redis_check () {
    my $health = call('GET', '/health', undef);
    return [$health->status, ($health->json->{checks}{redis}{ok} // die $health->body) ? 1 : 0];
}
$sidecar->redis->command('ACL', 'SETUSER', 'default', '-xreadgroup');
$t->wait_for('/health to tell of it', sub { redis_check->[0] == 503 });
is_deeply redis_check, [503, 0], '/health is 503 when reading is refused';
$sidecar->redis->command('ACL', 'SETUSER', 'default', '+xreadgroup');
$t->wait_for('/health to be good again', sub { redis_check->[0] == 200 });
pass 'and 200 again';

# -- the documentation has the router's table --------------------------------------------------------
my %routed = map { $_ => 1 } $t->read_file($t->root . '/sidecar/api/router.cpp') =~ m{^    \{("[A-Z]+", "[^"]+", "[^"]*")}mg;
my $page = $t->read_file($t->root . '/docs/api.md');
my %documented;
while ($page =~ m{^\| `([A-Z]+) (/[^`]*)` \| (?:`([^`]+)`)? ?\|}mg) { $documented{ sprintf '"%s", "%s", "%s"', $1, $2, $3 // '' } = 1 }
ok keys %routed > 5, 'the router has a table';
is_deeply \%documented, \%routed, 'docs/api.md has every route with its scope, and no other';

$t->done;
