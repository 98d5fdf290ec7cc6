# The command line beside a running `headgate serve`: what it changes takes effect there and at the edge
# within a second, what it prints scripts can rely on, and what it refuses it explains.
use v5.36;
use Test::More;

use IO::Socket::INET;

use Headgate::Sidecar;
use Headgate::Test;

my $t = Headgate::Test->new;
my $h = Headgate::Sidecar->init($t)->serve->wait_until_healthy;
my $nginx = $h->front;

sub fails_with ($code, $pattern, @words) {
    my ($got, $said) = $h->run(@words);
    is $got, $code, "headgate @words: exit $code" or diag $said;
    like $said, $pattern, '... and says why';
    unlike $said, qr/terminate|what\(\)|std::/, '... in words for people';
}
sub publish_status ($key, $type = 'order.created') {
    return $nginx->request(
        'POST', '/events', headers => ['X-API-Key' => $key, 'Content-Type' => 'application/json'],
        body => qq({"type":"$type","source":"cli","payload":{"n":1}}),
    )->status;
}

# -- init ---------------------------------------------------------------------------------------
for my $file (qw(pepper token.key master.key)) {
    my $path = $t->path("headgate/$file");
    is sprintf('%o', (stat $path)[2] & 07777), '600', "$file is its owner's";
    like $t->read_file($path), qr/\A[0-9a-f]{64}\n\z/, "$file is 64 hex digits and a newline" if $file ne 'master.key';
}
is sprintf('%o', (stat $t->path('headgate'))[2] & 07777), '700', 'and so is the directory';
my $before = $t->read_file($h->config);
fails_with(1, qr/nothing is overwritten/, 'init', '--dir', $t->path('headgate'));
is $t->read_file($h->config), $before, 'init overwrites nothing';

# -- version, usage -----------------------------------------------------------------------------
my ($code, $said) = $h->run('version');
is $code, 0, 'version';
like $said, qr/\d+\.\d+\.\d+/, '... is printed';
fails_with(2, qr/unknown|not expected|required|usage/i, 'no-such-command');
fails_with(2, qr/--name|required/i, 'key', 'create', '--org', $h->org);

# -- organizations ------------------------------------------------------------------------------
my $acme = $h->run_json('org', 'create', '--name', 'acme');
ok length $acme->{id}, 'org create prints an id';
my $orgs = $h->run_json('org', 'list');
is scalar(grep { $_->{id} eq $acme->{id} } (ref $orgs eq 'ARRAY' ? @$orgs : $orgs->{organizations}->@*)), 1, 'org list shows it';
fails_with(1, qr/acme/, 'org', 'create', '--name', 'acme');

# -- keys: usable at the edge, and revoked there, within a second --------------------------------
my $key = $h->run_json('key', 'create', '--org', $acme->{id}, '--name', 'shop', '--scopes', 'events:write', '--plan', 'pro');
like $key->{api_key}, qr/\Ahg_[0-9A-Za-z]{8}_[0-9A-Za-z_-]{43}[0-9A-Za-z]{6}\z/, 'key create prints the key';
$t->wait_for('the edge to know the new key', sub { publish_status($key->{api_key}) == 201 }, 2);
pass 'a new key works at the edge at once';
my ($listed) = grep { $_->{id} eq $key->{id} } do { my $l = $h->run_json('key', 'list', '--org', $acme->{id}); ref $l eq 'ARRAY' ? @$l : $l->{api_keys}->@* };
ok $listed, 'key list shows it';
is index(JSON::PP::encode_json($listed), $key->{api_key}), -1, '... without the key itself';
fails_with(1, qr/scope/i, 'key', 'create', '--org', $acme->{id}, '--name', 'x', '--scopes', 'Not A Scope', '--plan', 'pro');
fails_with(1, qr/org/i, 'key', 'create', '--org', 'no-such-org', '--name', 'x', '--scopes', 'events:write', '--plan', 'pro');
# A token made from it dies with it.
my $minted = $nginx->request(
    'POST', '/token', headers => ['Content-Type' => 'application/x-www-form-urlencoded'], body => "username=api&password=$key->{api_key}",
)->json->{access_token};
sub token_status () {
    return $nginx->request(
        'POST', '/events', headers => [Authorization => "Bearer $minted", 'Content-Type' => 'application/json'],
        body => '{"type":"order.created","source":"cli","payload":{"n":1}}',
    )->status;
}
is token_status(), 201, 'a token made from the key' for 1 .. 2;
is(($h->run('key', 'revoke', $key->{id}))[0], 0, 'key revoke');
$t->wait_for('the edge to refuse the revoked key', sub { publish_status($key->{api_key}) == 401 }, 2);
pass 'a revoked key is refused at the edge at once';
$t->wait_for('the edge to refuse its token', sub { token_status() == 401 }, 2);
pass 'and so is its token, though the edge has seen it before';
fails_with(1, qr/does not exist/, 'key', 'revoke', 'no-such-key');

# -- webhooks: what the command made matches every event that is accepted after its exit -----------
my $receiver_port = $t->port;
my $hook = $h->run_json('webhook', 'create', '--org', $h->org, '--url', "http://127.0.0.1:$receiver_port/hook", '--events', 'order.*,user.created');
like $hook->{secret}, qr/\Awhsec_/, 'webhook create prints a secret';
my $receive = $t->start(
    name => 'headgate receive', log => $t->path('receive.log'),
    command => [$h->executable, 'receive', '--secret', $hook->{secret}, '--listen', "127.0.0.1:$receiver_port", '--count', 1, '--json'],
);
my $sent = $h->run_json('event', 'send', '--url', 'http://127.0.0.1:' . $nginx->port, '--key', $h->api_key, '--type', 'order.paid', '--source', 'cli', '--payload', '{"n":1}');
ok length $sent->{id}, 'event send prints the id';
$t->wait_for('headgate receive to end after one delivery', sub { !$receive->alive });
like $receive->log_text, qr/"id":"\Q$sent->{id}\E".*"verified":true/, 'it arrived, verified';
my $hooks = $h->run_json('webhook', 'list', '--org', $h->org);
my ($shown) = grep { $_->{id} eq $hook->{id} } ref $hooks eq 'ARRAY' ? @$hooks : $hooks->{webhooks}->@*;
ok $shown, 'webhook list shows it';
is index(JSON::PP::encode_json($shown), $hook->{secret}), -1, '... without the secret';
# Every choice, as the API would take it.
my $template = $t->write_file('body.tpl', qq({"kind":"{{type}}","n":{{payload.n}}}\n));
my @all = ('--org', $h->org, '--url', "http://127.0.0.1:$receiver_port/all", '--events', 'order.*');
my $all = $h->run_json(
    'webhook', 'create', @all, '--format', 'template', '--template', "\@$template", '--ordering', 'key', '--on-failure', 'skip', '--rate', '600r/m',
    '--signature-style', 'stripe', '--sign-ed25519', '--timeout', 7, '--max-in-flight', 3, '--content-type', 'application/json',
);
like $all->{public_key}, qr/\Awhpk_/, 'webhook create --sign-ed25519 prints the public key';
my ($row) = $h->sql("SELECT payload_format, body_template, ordering, ordering_policy, rate, signature_style, timeout_ms, max_in_flight FROM webhooks WHERE id = '$all->{id}'");
is_deeply $row, { payload_format => 'template', body_template => '{"kind":"{{type}}","n":{{payload.n}}}', ordering => 'key', ordering_policy => 'skip', rate => '600r/m',
    signature_style => 'stripe', timeout_ms => 7000, max_in_flight => 3 }, 'webhook create with every choice';
fails_with(1, qr/line 1, column 6: only/, 'webhook', 'create', @all, '--template', '{"a":{{#x}}}');
fails_with(1, qr/cannot be read/, 'webhook', 'create', @all, '--template', '@/no/such/file');
fails_with(1, qr/ordering_policy needs/, 'webhook', 'create', @all, '--on-failure', 'skip');
fails_with(1, qr/10\.0\.0\.1|private|address/i, 'webhook', 'create', '--org', $h->org, '--url', 'https://10.0.0.1/', '--events', '*');
fails_with(1, qr/https/i, 'webhook', 'create', '--org', $acme->{id}, '--url', 'http://example.com/', '--events', '*');
fails_with(1, qr/event/i, 'webhook', 'create', '--org', $h->org, '--url', 'https://example.com/', '--events', 'bad!type');
fails_with(1, qr/JSON|payload/i, 'event', 'send', '--url', 'http://127.0.0.1:' . $nginx->port, '--key', $h->api_key, '--type', 'a.b', '--source', 's', '--payload', '[1]');

# -- check-config -------------------------------------------------------------------------------
is(($h->run('check-config'))[0], 0, 'check-config of what init made');
my $broken = $before =~ s/^\[redis\]$/[redis]\nulr = "redis:\/\/x"/mr;
$t->write_file('broken/headgate.toml', $broken);
{
    local $h->{config} = $t->path('broken/headgate.toml');
    fails_with(1, qr/headgate\.toml.*ulr.*url/s, 'check-config');
    fails_with(1, qr/ulr/, 'serve');
}
chmod 0644, $t->path('headgate/pepper');
fails_with(1, qr/pepper.*chmod 600|chmod 600.*pepper/s, 'check-config');
chmod 0600, $t->path('headgate/pepper');

# What Redis promises is said with every check: how much a 201 is worth there.
{
    my sub warnings () { [map { $_->{detail} } grep { $_->{check} eq 'redis.url' && $_->{result} eq 'warning' } $h->run_json('check-config')->@*] }
    my $redis = $h->redis;
    is_deeply warnings(), [], 'check-config: appendfsync always: nothing to say';
    $redis->command(qw(CONFIG SET appendfsync everysec));
    is_deeply warnings(), ['appendfsync is everysec: about 2 s of events can be lost when Redis dies; `always` loses none'], '... everysec: how much can be lost';
    $redis->command(qw(CONFIG SET appendfsync no));
    like warnings()->[0], qr/\Aappendfsync is no: /, '... no: the same';
    $redis->command(qw(CONFIG SET appendonly no));
    is_deeply warnings(), ['appendonly is off: events that were answered 201 are lost when Redis dies; run: redis-cli config set appendonly yes'],
        '... no AOF: everything, and what to do';
    $nginx->expect_alarms(qr/maxmemory-policy allkeys-lru would evict/);    # which the edge says as well, if it looks just then
    $redis->command('CONFIG', 'SET', @$_) for [qw(appendonly yes)], [qw(appendfsync always)], [qw(maxmemory-policy allkeys-lru)];
    fails_with(1, qr/maxmemory-policy is allkeys-lru: it may throw events away; run: redis-cli config set maxmemory-policy noeviction/, 'check-config');
    $redis->command(qw(CONFIG SET maxmemory-policy noeviction));
}

# -- a signal while it starts ---------------------------------------------------------------------
# The stop was lost when nobody waited for it yet. A Redis that accepts and never answers holds the start up.
{
    my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', Timeout => 15) // die "listen: $!";
    my $url    = 'redis://127.0.0.1:' . $silent->sockport;
    my $port   = $t->port;
    my $toml   = $before =~ s/^(url|keys_url) = "redis:[^"]*"/$1 = "$url"/mgr =~ s/^listen = "[^"]*"/listen = "127.0.0.1:$port"/mr
        =~ s/^url = "sqlite:[^"]*"/'url = "sqlite:' . $t->path('starting.db') . '"'/mre;
    my $config = $t->write_file('headgate/starting.toml', $toml);
    my $starting = $t->start(
        name => 'a starting serve', command => [$h->executable, 'serve', '--config', $config], log => $t->path('starting.log'),
    );
    my $connection = $silent->accept // $t->die_with_logs('serve did not ask its Redis');    # now it waits for an answer
    $starting->signal('TERM');
    $t->wait_for('it to end', sub { !$starting->alive }, 12);
    is $starting->status, 0, 'SIGTERM while serve starts ends it' or diag $starting->log_text;
    unlike $starting->log_text, qr/stopped_late/, '... and no part is late';
}

# -- a second serve on the same database ----------------------------------------------------------
fails_with(1, qr/another|lock|pid/i, 'serve');

$t->done;
