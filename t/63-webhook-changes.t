# Webhooks changed by PUT and by the command line, their secrets and key pairs rotated; and `headgate receive`, which
# verifies both kinds of signatures.
use v5.36;
use Test::More;

use IO::Socket::INET;

use Headgate::Credentials qw(json);
use Headgate::Http;
use Headgate::Keys;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $sidecar = $t->sidecar->serve->wait_until_healthy;
my $front   = $sidecar->front;
my $key     = $sidecar->api_key;

sub call ($method, $target, $body = undef, @headers) {
    return Headgate::Http->connect(port => $sidecar->port)->request(
        $method, $target, headers => ['X-API-Key' => $key, (defined $body ? ('Content-Type' => 'application/json') : ()), @headers],
        defined $body ? (body => ref $body ? json($body) : $body) : (),
    );
}
sub webhook_of ($answer) { $answer->status < 300 ? $answer->json->{data}{webhook} : $t->die_with_logs($answer->body) }
sub headers_of ($id) {
    my $target = call('GET', "/api/webhooks/$id")->json->{data}{webhook}{headers};
    return join ' ', sort keys %$target;
}
sub publish ($type) {
    my $answer = $front->request(
        'POST', '/events', headers => ['X-API-Key' => $key, 'Content-Type' => 'application/json'],
        body => qq({"type":"$type","source":"t/63","payload":{"n":1}}),
    );
    return $answer->json->{id};
}
sub fails_with ($code, $pattern, @words) {
    my ($got, $said) = $sidecar->run(@words);
    is $got, $code, "headgate @words: exit $code" or diag $said;
    like $said, $pattern, '... and says why';
}

# -- PUT: what is given replaces, the rest is kept ------------------------------------------------
my $port = $t->port;
my $made = webhook_of(call('POST', '/api/webhooks/', {
    name => 'First', url => "http://127.0.0.1:$port/a", events => ['order.*'], filters => { min_n => 1 }, rate => '600r/m', sign_ed25519 => JSON::PP::true,
    headers => { 'X-Team' => 'red', 'X-Kept' => 'kept', Authorization => 'Bearer x' }, retry_config => { max_retries => 2, schedule => [1000, 2000] },
}));
my $path = "/api/webhooks/$made->{id}/";
my $got  = call('GET', $path);
my $etag = $got->header('ETag');
my $put = call('PUT', $path, {
    name => 'Second', description => 'said', url => "http://127.0.0.1:$port/b", events => ['user.created'], is_active => JSON::PP::false,
    headers => { 'X-New' => 'new', 'X-Kept' => '********' }, filters => { max_n => 9 },
}, 'If-Match' => $etag);
is $put->status, 200, 'PUT' or diag $put->body;
my $changed = webhook_of($put);
is_deeply [@$changed{qw(name description is_active)}, $changed->{events}, $changed->{filters}], ['Second', 'said', JSON::PP::false, ['user.created'], { max_n => 9 }], 'what was given replaces what there was';
is_deeply [@$changed{qw(rate public_key)}, $changed->{retry_config}], [@$made{qw(rate public_key)}, $made->{retry_config}], 'the rest is kept';
is headers_of($made->{id}), 'X-Kept X-New', 'headers are replaced as a whole';
isnt $put->header('ETag'), $etag, 'another version';
is call('PUT', $path, { name => 'x' }, 'If-Match' => $etag)->status, 412, 'PUT to an older version';
is call('PUT', $path, '{"nmae":"x"}')->status, 422, 'PUT with a member that is none';
is call('PUT', $path, '{"events":[]}')->status, 422, 'PUT of something wrong';
is call('PUT', '/api/webhooks/018f0000-0000-7000-8000-000000000000/', '{}')->status, 404, 'PUT to nothing';

# What GET showed may be sent back, and changes nothing but the version.
$got = webhook_of(call('GET', $path));
my $again = webhook_of(call('PUT', $path, $got));
delete $_->@{qw(updated_at success_rate delivery_stats)} for $got, $again;
is_deeply $again, $got, 'PUT of what GET showed changes nothing';

# The values of the headers are still there: the endpoint gets them. Authorization too, which is never shown.
my $target = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1:$port", ReuseAddr => 1, Timeout => 15) // die "listen: $!";
call('PUT', $path, { is_active => JSON::PP::true, filters => {} });
publish('user.created');
my $request = '';
if (my $peer = $target->accept) {
    while ($request !~ /\r\n\r\n/ && sysread $peer, my $bytes, 4096) { $request .= $bytes }
    print $peer "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    close $peer;
}
close $target;
like $request, qr{^POST /b }, 'the endpoint of PUT is sent to';
like $request, qr/^X-Kept: kept\r$/mi, '... with the value behind the mask';
like $request, qr/^X-New: new\r$/mi, '... and the new header';
like $request, qr/^Authorization: Bearer x\r$/mi, '... and the one that is never shown';
unlike $request, qr/^X-Team/mi, '... and without the one that was left out';

# -- the command line ---------------------------------------------------------------------------
my $shown = $sidecar->run_json('webhook', 'show', $made->{id});
is_deeply [@$shown{qw(id name rate)}, $shown->{delivery_stats}{successful_deliveries} >= 0], [$made->{id}, 'Second', '600r/m', 1], 'webhook show';
is index(json($shown), $made->{secret}), -1, '... without the secret';
like +($sidecar->run('webhook', 'show', $made->{id}))[1], qr/^name: Second$/m, '... for people';
my $updated = $sidecar->run_json('webhook', 'update', $made->{id}, '--name', 'Third', '--events', 'order.*,a.b', '--timeout', 9, '--reset', 'rate,description', '--disable');
is_deeply [@$updated{qw(name rate description timeout_seconds is_active)}, $updated->{events}], ['Third', undef, '', 9, JSON::PP::false, ['order.*', 'a.b']], 'webhook update';
is $updated->{public_key}, $made->{public_key}, '... keeps the rest';
is $sidecar->run_json('webhook', 'update', $made->{id}, '--no-sign-ed25519', '--enable')->{sign_ed25519}, JSON::PP::false, '... and drops the key pair';
fails_with(1, qr/nothing to change/, 'webhook', 'update', $made->{id});
fails_with(1, qr/contradict/, 'webhook', 'update', $made->{id}, '--rate', '1r/s', '--reset', 'rate');
fails_with(1, qr/no such member/, 'webhook', 'update', $made->{id}, '--reset', 'rtae');
fails_with(1, qr/url is required/, 'webhook', 'update', $made->{id}, '--reset', 'url');
fails_with(2, qr/exclude/, 'webhook', 'update', $made->{id}, '--enable', '--disable');
fails_with(1, qr/10\.0\.0\.1|private|address/i, 'webhook', 'update', $made->{id}, '--url', 'https://10.0.0.1/');
fails_with(1, qr/./, 'webhook', $_, '018f0000-0000-7000-8000-000000000000') for 'show', 'rotate-secret';
my $other = $sidecar->run_json('org', 'create', '--name', 'other');
fails_with(1, qr/./, 'webhook', 'update', $made->{id}, '--org', 'other', '--name', 'x');
is $sidecar->run_json('webhook', 'show', $made->{id})->{name}, 'Third', "another organization's is not changed";
fails_with(1, qr/secret must be/, 'webhook', 'rotate-secret', $made->{id}, '--secret', 'short');
fails_with(1, qr/duration/, 'webhook', 'rotate-secret', $made->{id}, '--grace', 'soon');
fails_with(1, qr/grace_seconds/, 'webhook', 'rotate-secret', $made->{id}, '--grace', '8d');

# -- receive, by secret and by public key; a rotation reaches the running serve -------------------
my $receivers = 0;
# One event to a receiver that verifies with @keys: the line that it printed.
sub receive ($type, @keys) {
    my $receiver = $t->start(
        name => 'headgate receive', log => $t->path('receive-' . ++$receivers . '.log'),
        command => [$sidecar->executable, 'receive', '--listen', "127.0.0.1:$port", '--json', @keys],
    );
    $t->wait_for_port($port, $receiver);
    my $id = publish($type);
    my ($line);
    $t->wait_for('the event to arrive', sub { ($line) = grep { ($_->{id} // '') eq $id } map { JSON::PP::decode_json($_) } grep { /^\{/ } split /\n/, $receiver->log_text });
    $receiver->signal('TERM');
    $t->wait_for('receive to end', sub { !$receiver->alive });
    return $line;
}
my $hook   = webhook_of(call('POST', '/api/webhooks/', { url => "http://127.0.0.1:$port/c", events => ['key.test'], sign_ed25519 => JSON::PP::true, retry_config => { max_retries => 0 } }));
my @secret = ('--secret', $hook->{secret});
my $url    = 'http://127.0.0.1:' . $sidecar->port . $hook->{jwks_path};
my $yes    = JSON::PP::true;
my $no     = JSON::PP::false;

is_deeply [@{ receive('key.test', @secret) }{qw(verified v1 v1a)}], [$yes, $yes, undef], 'by the secret';
is_deeply [@{ receive('key.test', '--public-key', $hook->{public_key}) }{qw(verified v1 v1a)}], [$yes, undef, $yes], 'by the public key';
is_deeply [@{ receive('key.test', @secret, '--public-key', $url) }{qw(verified v1 v1a)}], [$yes, $yes, $yes], 'by both, the key from its URL';
my $file = $t->write_file('jwks.json', Headgate::Http->connect(port => $sidecar->port)->request('GET', $hook->{jwks_path})->body);
is_deeply [@{ receive('key.test', '--public-key', $file) }{qw(verified v1a)}], [$yes, $yes], 'by a file of JWKs';
my $text = $t->write_file('key.txt', "$hook->{public_key}\n");
is_deeply [@{ receive('key.test', '--public-key', $text) }{qw(verified v1a)}], [$yes, $yes], 'by a file of the text';
my $stranger = Headgate::Keys->make($t, 'Ed25519');
is_deeply [@{ receive('key.test', @secret, '--public-key', $stranger->public_file) }{qw(verified v1 v1a)}], [$no, $yes, $no], 'another key verifies nothing';
call('POST', "/api/webhooks/$hook->{id}/rotate-key-pair/");
is_deeply [@{ receive('key.test', @secret, '--public-key', $hook->{public_key}) }{qw(verified v1 v1a)}], [$no, $yes, $no], 'nor does the one before a rotation';

my $rotated = $sidecar->run_json('webhook', 'rotate-secret', $hook->{id}, '--grace', '1h');
like $rotated->{secret}, qr/\Awhsec_/, 'webhook rotate-secret prints the new one';
isnt $rotated->{secret}, $hook->{secret}, '... which is another';
is receive('key.test', '--secret', $rotated->{secret})->{verified}, $yes, '... and signs at once';
$sidecar->run_json('webhook', 'rotate-secret', $hook->{id}, '--grace', '0s', '--secret', 'my own secret of text');
is receive('key.test', '--secret', $rotated->{secret})->{verified}, $no, 'without a time for the others they sign no more';
is receive('key.test', '--secret', 'my own secret of text')->{verified}, $yes, 'the new one does, at once';
fails_with(1, qr/public-key/, 'receive');
fails_with(1, qr/whsec_/, 'receive', '--secret', 'x');
fails_with(1, qr/cannot read/, 'receive', '--public-key', '/no/such/file');
fails_with(1, qr/public key/, 'receive', '--public-key', 'whpk_AAAA');
fails_with(1, qr/answered 404/, 'receive', '--public-key', "$url/x");

$t->done;
