# What webhooks may reach, seen from outside: `headgate explain-url`, its API, an organization's networks, and the test
# calls, which go the way of a delivery and leave nothing behind.
use v5.36;
use Test::More;

use Digest::SHA qw(hmac_sha256_hex);
use MIME::Base64 qw(decode_base64);
use Headgate::Credentials qw(json);
use Headgate::Test;

my $t       = Headgate::Test->new;
my $sidecar = $t->sidecar->serve->wait_until_healthy;
my $front   = $sidecar->front;
my $key     = $sidecar->api_key;
my $other   = $sidecar->run_json('org', 'create', '--name', 'other')->{id};
my $other_key = $sidecar->run_json('key', 'create', '--org', $other, '--name', 'admin', '--scopes', 'admin', '--plan', 'enterprise')->{api_key};
my $reader = $sidecar->run_json('key', 'create', '--org', $sidecar->org, '--name', 'reader', '--scopes', 'webhooks:read', '--plan', 'pro')->{api_key};

sub call ($method, $target, $key, $body = undef) {
    my @headers = ('X-API-Key' => $key);
    push @headers, 'Content-Type' => 'application/json' if defined $body;
    return $front->request($method, $target, headers => \@headers, defined $body ? (body => ref $body ? json($body) : $body) : ());
}
$t->wait_for('the keys to be at the edge', sub { call('GET', '/inbox', $other_key)->status == 200 && call('GET', '/api/webhooks', $reader)->status == 200 });

# Answers by the path, and writes what came as one line of JSON. /bytes is no UTF-8.
my $seen_file = $t->write_file("seen", "");
my $receiver_port = $t->port;
$t->write_file('receiver.pl', <<'RECEIVER');
use v5.36;
use IO::Socket::INET;
use JSON::PP;
my ($port, $file) = @ARGV;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 64, ReuseAddr => 1) or die "$!\n";
$SIG{CHLD} = 'IGNORE';
my $number = 0;
while (1) {
    my $socket = $listener->accept or next;
    ++$number;
    next if fork;
    my $read = '';
    while (sysread $socket, $read, 65_536, length $read) {
        while ($read =~ /\A((\S+) (\S+) .*?\r\n\r\n)/s) {
            my ($head, $path) = ($1, $3);
            my $length = $head =~ /\r\nContent-Length: (\d+)/i ? $1 : 0;
            last if length $read < length($head) + $length;
            my $body = substr $read, length $head, $length;
            substr $read, 0, length($head) + $length, '';
            my %headers = map { /\A([^:]+): ?(.*)\z/ ? (lc $1 => $2) : () } split /\r\n/, $head;
            open my $out, '>>', $file or die;
            syswrite $out, JSON::PP->new->encode({ path => $path, body => $body, headers => \%headers, connection => $number }) . "\n";
            close $out;
            my ($status, $extra, $answer) = $path eq '/moved' ? (302, "Location: /ok\r\n", '')
                : $path eq '/bytes' ? (200, '', "a\xff\0b") : $path eq '/large' ? (200, '', 'x' x 200_000)
                : $path eq '/fails' ? (500, '', 'no') : (200, '', '{"received":true}');
            syswrite $socket, "HTTP/1.1 $status X\r\n${extra}Content-Length: " . length($answer) . "\r\n\r\n$answer";
        }
    }
    exit 0;
}
RECEIVER
my $receiver = $t->start(name => 'receiver', command => [$^X, $t->path('receiver.pl'), $receiver_port, $seen_file]);
$t->wait_for_port($receiver_port, $receiver);
my $base = "http://127.0.0.1:$receiver_port";
sub seen ($path) { map { JSON::PP->new->decode($_) } grep { /"path":"\Q$path\E"/ } split /\n/, $t->read_file($seen_file) }

# -- explain-url on the command line -------------------------------------------------------------
sub explained ($code, $pattern, @words) {
    my ($got, $said) = $sidecar->run('explain-url', @words);
    is $got, $code, "explain-url @words: exit $code" or diag $said;
    like $said, $pattern, '... and says why' or diag $said;
}
my @org = ('--org', 'test');
explained(0, qr/8\.8\.8\.8 is public: allowed.*conclusion: allowed/s, 'https://8.8.8.8/hook');
explained(1, qr/https is required/, 'http://8.8.8.8/hook');
explained(1, qr/port: 25 is refused/, 'https://8.8.8.8:25/');
explained(1, qr/10\.0\.0\.1 is private \(RFC 1918\) and not in security\.allow_networks/, 'https://10.0.0.1/', @org);
explained(1, qr/metadata address, which nothing can allow/, 'https://169.254.169.254/latest/', @org);
explained(1, qr/form: .*four decimal numbers/, 'https://2130706433/');
explained(1, qr/form: .*user information/, 'https://a:b@example.com/');
explained(1, qr/form: .*zone ids/, 'https://[fe80::1%25eth0]/');
explained(1, qr/form: .*non-ASCII/, "https://b\xc3\xbccher.example/");
explained(1, qr/not allowed for this organization/, "$base/");
explained(0, qr/networks: .*whole ceiling.*ceiling: .*127\.0\.0\.0\/8.*127\.0\.0\.1 is in security\.allow_networks/s, "$base/", @org);
explained(0, qr/localhost is a host name.*127\.0\.0\.1 is in security/s, "http://localhost:$receiver_port/", @org);
explained(1, qr/nowhere\.invalid has no address/, 'https://nowhere.invalid/');
explained(1, qr/own Redis, store or API/, 'http://127.0.0.1:' . $sidecar->port . '/api/', @org);
explained(1, qr/own Redis, store or API/, 'http://127.0.0.1:' . $sidecar->redis->port . '/', @org);
explained(1, qr/own Redis, store or API/, 'http://127.0.0.9:' . $sidecar->redis->port . '/', @org);
explained(1, qr/there is no organization/, 'https://8.8.8.8/', '--org', 'nobody');
my $report = $sidecar->run_json('explain-url', "$base/", @org);
is_deeply [$report->{url}, $report->{allowed}], ["$base/", JSON::PP::true], '--json';
is_deeply [map { $_->{step} } $report->{steps}->@*], [qw(form scheme port networks ceiling address conclusion)], 'its steps';
ok !-s $seen_file, 'nothing was sent for any of them';

# -- and in the API ------------------------------------------------------------------------------
my $encoded = "$base/" =~ s/([^A-Za-z0-9.])/sprintf '%%%02X', ord $1/ger;
my $answer = call('GET', "/api/webhooks/explain-url?url=$encoded", $key);
is $answer->status, 200, 'GET explain-url' or diag $answer->body;
is $answer->json->{data}{allowed}, JSON::PP::true, 'allowed to the one';
$answer = call('POST', '/api/webhooks/explain-url/', $other_key, { url => "$base/" });
is $answer->status, 200, 'POST explain-url';
is $answer->json->{data}{allowed}, JSON::PP::false, 'and not to the other';
like $answer->json->{data}{conclusion}, qr/refused/, 'its conclusion';
is call('GET', '/api/webhooks/explain-url', $key)->status, 422, 'without a url';
is call('POST', '/api/webhooks/explain-url', $key, { url => 1 })->status, 422, 'with a number';

# -- a test call ---------------------------------------------------------------------------------
sub webhook ($key, $path, %more) {
    my $made = call('POST', '/api/webhooks', $key, { url => "$base$path", events => ['order.*'], %more });
    is $made->status, 201, "a webhook to $path" or diag $made->body;
    return $made->json->{data}{webhook};
}
my $hook   = webhook($key, '/ok', headers => { 'X-Team' => 'team-secret' });
my %before = map { $_ => $sidecar->sql_value("select count(*) from $_") } qw(deliveries events attempts webhooks);
$answer = call('POST', "/api/webhooks/$hook->{id}/test/", $key, { event => 'order.created', payload => { order_id => 7 } });
is $answer->status, 200, 'POST {id}/test' or diag $answer->body;
is $answer->json->{message}, 'Webhook test completed successfully', 'its message';
my $result = $answer->json->{data}{test_result};
is_deeply [sort keys %$result], [qw(headers_sent response_body response_code response_time status timestamp)], 'its members';
is_deeply [@$result{qw(status response_code response_body)}], ['success', 200, '{"received":true}'], 'what came back';
like $result->{timestamp}, qr/\A\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z\z/, 'timestamp';
unlike $answer->body, qr/team-secret|whsec_/, 'no secret is shown';
ok exists $result->{headers_sent}{'X-Team'}, 'its own header is named';
my ($sent) = seen('/ok');
my $secret = decode_base64($hook->{secret} =~ s/\Awhsec_//r);
is $sent->{headers}{'x-webhook-signature'}, 'sha256=' . hmac_sha256_hex($sent->{body}, $secret), 'signed as a delivery is';
is $result->{headers_sent}{'X-Webhook-Signature'}, $sent->{headers}{'x-webhook-signature'}, 'and told';
is $sent->{headers}{'x-team'}, 'team-secret', 'with the header of the webhook';
is_deeply JSON::PP->new->decode($sent->{body})->{data}{object}, { order_id => 7 }, 'the payload';

$answer = call('POST', '/api/webhooks/test', $key, { webhook_id => $hook->{id}, event => 'order.paid' });
is $answer->json->{data}{test_result}{status}, 'success', 'by webhook_id';
$answer = call('POST', '/api/webhooks/test/', $key, { url => "$base/new", event => 'order.paid', payload => {} });
is $answer->status, 200, 'by url' or diag $answer->body;
($sent) = seen('/new');
is $sent->{headers}{'x-webhook-signature'},
    'sha256=' . hmac_sha256_hex($sent->{body}, decode_base64($answer->json->{data}{secret} =~ s/\Awhsec_//r)), 'with a secret made for it';
my $own = 'a-secret-of-my-own';
$answer = call('POST', '/api/webhooks/test/', $key, { url => "$base/own", event => 'order.paid', secret => $own });
ok !exists $answer->json->{data}{secret}, "a caller's own secret is not told again";
($sent) = seen('/own');
is $sent->{headers}{'x-webhook-signature'}, 'sha256=' . hmac_sha256_hex($sent->{body}, $own), 'and signs';

# What goes wrong is told.
sub test_url ($path) { call('POST', '/api/webhooks/test', $key, { url => "$base$path", event => 'a.b' })->json->{data}{test_result} }
is_deeply [@{ test_url('/moved') }{qw(status response_code error_type)}], ['failed', 302, 'http_302'], 'a redirect is a failure';
is scalar(seen('/ok')), 2, 'and was not followed';
is_deeply [@{ test_url('/fails') }{qw(status response_code response_body)}], ['failed', 500, 'no'], 'a 500';
is test_url('/bytes')->{response_body}, "a\x{fffd}\x{fffd}b", 'bytes that are no text';
is length test_url('/large')->{response_body}, 65_536, 'a long response is cut';
$answer = call('POST', '/api/webhooks/test', $key, { url => 'http://127.0.0.1:' . $t->port . '/', event => 'a.b' });
is_deeply [@{ $answer->json->{data}{test_result} }{qw(status response_code error_type)}], ['failed', undef, 'connection_error'], 'nobody there';
is $answer->json->{message}, 'Webhook test failed', 'its message';

# What is refused. Another organization's webhook does not exist.
for my $case (
    ["$hook->{id}/test", $other_key, { event => 'a.b' }, 404], ['test', $other_key, { webhook_id => $hook->{id}, event => 'a.b' }, 404],
    ['01930000-0000-7000-8000-000000000000/test', $key, { event => 'a.b' }, 404],
    ['test', $other_key, { url => "$base/foreign", event => 'a.b' }, 422],
    ['test', $key, { url => 'https://10.0.0.1/', event => 'a.b' }, 422], ['test', $key, { url => 'https://169.254.169.254/', event => 'a.b' }, 422],
    ['test', $key, { url => 'http://127.0.0.1:' . $sidecar->port . '/health', event => 'a.b' }, 422],
    ['test', $key, { event => 'a.b' }, 422], ['test', $key, { url => "$base/", webhook_id => $hook->{id}, event => 'a.b' }, 422],
    ["$hook->{id}/test", $key, { payload => {} }, 422], ["$hook->{id}/test", $key, { event => 'a.*' }, 422],
    ["$hook->{id}/test", $key, { event => "a\r\nX-Evil: 1" }, 422],
    ["$hook->{id}/test", $key, { event => 'a.b', payload => 'text' }, 422], ["$hook->{id}/test", $key, { event => 'a.b', url => "$base/" }, 422],
    ["$hook->{id}/test", $reader, { event => 'a.b' }, 403],
) {
    my ($path, $by, $body, $status) = @$case;
    is call('POST', "/api/webhooks/$path", $by, $body)->status, $status, "$path " . json($body) . " is $status";
}
is scalar(seen('/foreign')), 0, 'nothing was sent';
my %after = map { $_ => $sidecar->sql_value("select count(*) from $_") } keys %before;
is_deeply \%after, \%before, 'no row was written';
is_deeply [@{ call('GET', "/api/webhooks/$hook->{id}", $key)->json->{data}{webhook} }{qw(last_triggered success_count failure_count)}],
    [undef, 0, 0], 'no counter of the webhook moved';

# -- an organization's networks ------------------------------------------------------------------
is call('POST', '/api/webhooks', $other_key, { url => "$base/theirs", events => ['*'] })->status, 422, 'the other organization may not go there';
my $networks = $sidecar->run_json('org', 'allow-network', '--org', 'other', '--network', '127.0.0.1');
is_deeply $networks, [{ network => '127.0.0.1', within_ceiling => JSON::PP::true }], 'allow-network';
$sidecar->run_json('org', 'allow-network', '--org', $other, '--network', '10.0.0.0/8');
is_deeply $sidecar->run_json('org', 'allow-network', '--org', 'other', '--list'),
    [{ network => '127.0.0.1', within_ceiling => JSON::PP::true }, { network => '10.0.0.0/8', within_ceiling => JSON::PP::false }], '--list';
for my $words (['--network', '10.0.0.1/8'], ['--network', 'nonsense'], ['--network', '192.168.0.0/16', '--remove'], [], ['--list', '--network', '*']) {
    my ($code) = $sidecar->run('org', 'allow-network', '--org', 'other', @$words);
    is $code, 1, "allow-network @$words is refused";
}
is call('POST', '/api/webhooks/test', $other_key, { url => 'https://10.0.0.1/', event => 'a.b' })->status, 422, 'beyond the ceiling nothing is allowed';
my $theirs = webhook($other_key, '/theirs', retry_config => { max_retries => 0 });
sub publish () { call('POST', '/events', $other_key, { type => 'order.created', source => 's', payload => {} })->status }
is publish(), 201, 'an event';
$t->wait_for('its delivery', sub { scalar(seen('/theirs')) == 1 });
is call('POST', "/api/webhooks/$theirs->{id}/test", $other_key, { event => 'a.b' })->json->{data}{test_result}{status}, 'success', 'and a test';

# Taken back, while a connection is still open: what follows is refused, on that connection as well.
$sidecar->run_json('org', 'allow-network', '--org', 'other', '--network', '127.0.0.1', '--remove');
is call('POST', "/api/webhooks/$theirs->{id}/test", $other_key, { event => 'a.b' })->json->{data}{test_result}{error_type}, 'blocked_address',
    'a test after --remove is refused';
is call('POST', "/api/webhooks/$hook->{id}/test", $key, { event => 'a.b' })->json->{data}{test_result}{status}, 'success', 'to the one, still good';
is publish(), 201, 'another event';
$t->wait_for('its attempt', sub { $sidecar->sql_value(q(select count(*) from attempts where error_type = 'blocked_address')) > 0 });
is scalar(seen('/theirs')), 2, 'was not sent';

# -- a proxy of the configuration ----------------------------------------------------------------
# It writes down whom it is asked for, and connects to nobody else.
my $proxy_port = $t->port;
my $asked_file = $t->write_file('asked', '');
$t->write_file('proxy.pl', <<'PROXY');
use v5.36;
use IO::Select;
use IO::Socket::INET;
my ($port, $file) = @ARGV;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 64, ReuseAddr => 1) or die "$!\n";
$SIG{CHLD} = 'IGNORE';
while (1) {
    my $client = $listener->accept or next;
    next if fork;
    my $head = '';
    while ($head !~ /\r\n\r\n/) { sysread $client, $head, 65_536, length $head or exit 0 }
    open my $out, '>>', $file or die;
    syswrite $out, join(' ', $head =~ /\A(\S+ \S+)/, $head =~ /^Proxy-Authorization: (.*?)\r$/mi) . "\n";
    my ($target) = $head =~ /\ACONNECT (127\.\d+\.\d+\.\d+:\d+) / or exit 0;
    my $server = IO::Socket::INET->new(PeerAddr => $target) or exit 0;
    syswrite $client, "HTTP/1.1 200 OK\r\n\r\n";
    my $select = IO::Select->new($client, $server);
    while (1) {
        for my $from ($select->can_read) {
            sysread $from, my $bytes, 65_536 or exit 0;
            syswrite $from == $client ? $server : $client, $bytes;
        }
    }
}
PROXY
my $proxy = $t->start(name => 'proxy', command => [$^X, $t->path('proxy.pl'), $proxy_port, $asked_file]);
$t->wait_for_port($proxy_port, $proxy);
$t->write_file('credentials', "user:p%20w\n");
$sidecar->process->stop;
$sidecar->{env} = {
    HEADGATE_DELIVERY_PROXY => "http://127.0.0.1:$proxy_port", HEADGATE_DELIVERY_PROXY_CREDENTIALS_FILE => $t->path('credentials'),
    no_proxy => '*', http_proxy => 'http://127.0.0.1:9',
};
$sidecar->serve->wait_until_healthy;
$answer = call('POST', '/api/webhooks/test', $key, { url => "http://localhost:$receiver_port/proxied", event => 'a.b' });
is $answer->json->{data}{test_result}{status}, 'success', 'a test through the proxy' or diag $answer->body;
is scalar(seen('/proxied')), 1, 'has come';
is $t->read_file($asked_file), "CONNECT 127.0.0.1:$receiver_port Basic dXNlcjpwJTIwdw==\n", 'the proxy was asked for the address, with its password';
is call('POST', "/api/webhooks/$theirs->{id}/test", $other_key, { event => 'a.b' })->json->{data}{test_result}{error_type}, 'blocked_address',
    'the other organization is refused all the same';
is call('POST', '/api/webhooks/test', $key, { url => "http://127.0.0.1:$proxy_port/", event => 'a.b' })->status, 422, 'the proxy itself is no target';
my $direct = webhook($key, '/delivered');
is call('POST', '/events', $key, { type => 'order.created', source => 's', payload => {} })->status, 201, 'an event';
$t->wait_for('its delivery', sub { scalar(seen('/delivered')) == 1 });
ok((split /\n/, $t->read_file($asked_file)) > 1, 'deliveries go through it as well');
is scalar(seen('/theirs')), 2, 'and nothing of the other organization did';
like call('GET', "/api/webhooks/explain-url?url=$encoded", $key)->body, qr/"step":"proxy"/, 'explain-url tells of it';

$t->done;
