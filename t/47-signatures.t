# What endpoints get: bodies in every format, and signatures that the providers' own libraries verify. Real events, real
# deliveries, to an endpoint (t/clients/signatures.mjs) with the packages that such endpoints are written with.
use v5.36;
use Test::More;

use Headgate::Credentials qw(json);
use Headgate::Http;
use Headgate::Test;
use MIME::Base64 qw(decode_base64 encode_base64);

my $t       = Headgate::Test->new;
my $sidecar = $t->sidecar->serve->wait_until_healthy;
my $front   = $sidecar->front;
my $port    = $t->port;
my $out     = $t->path('received.jsonl');
my %endpoints;

sub configure () { $t->write_file('endpoints.json', json(\%endpoints)) }
configure();
my $endpoint = $t->start(
    name => 'endpoint', log => $t->path('endpoint.log'),
    command => ['node', $t->root . '/t/clients/signatures.mjs', '--port', $port, '--config', $t->path('endpoints.json'), '--out', $out],
);
$t->wait_for_port($port, $endpoint);

# The sidecar itself: what nginx adds is not in question here.
sub call ($method, $target, $body = undef, @headers) {
    return Headgate::Http->connect(port => $sidecar->port)->request(
        $method, $target, headers => ['X-API-Key' => $sidecar->api_key, (defined $body ? ('Content-Type' => 'application/json') : ()), @headers],
        defined $body ? (body => ref $body ? json($body) : $body) : (),
    );
}

# A webhook of its own path and event type.
sub webhook ($name, %members) {
    my $answer = call('POST', '/api/webhooks', { url => "http://127.0.0.1:$port/$name", events => ["test.$name"], %members });
    is $answer->status, 201, "webhook $name" or $t->die_with_logs($answer->body);
    return $answer->json->{data}{webhook};
}
my $payload = '{ "order":{"total":12.50, "note":"a \"b\" \u00e9\n&="}, "big":12345678901234567890, "items":[{"sku":"A-1"}] }';

# Publishes, and waits for what the endpoint made of it.
sub deliver ($name, $verify = 'standard', @secrets) {
    $endpoints{"/$name"} = { verify => $verify, secrets => \@secrets };
    configure();
    my $answer = $front->request(
        'POST', '/events', headers => ['X-API-Key' => $sidecar->api_key, 'Content-Type' => 'application/json'],
        body => qq({"type":"test.$name","source":"t/47","payload":$payload}),
    );
    is $answer->status, 201, "$name: published" or return {};
    my $id = $answer->json->{id};
    my $line;
    $t->wait_for("$name to be delivered", sub { ($line) = grep { $_->{id} eq $id } map { JSON::PP::decode_json($_) } split /\n/, $t->read_file($out) });
    return $line;
}
sub is_verified ($line, $name, @secrets) {
    is_deeply $line->{verified}, { map { $_ => JSON::PP::true } @secrets }, $name or diag json($line);
}

# -- formats -----------------------------------------------------------------------------------
my $raw = webhook('raw', payload_format => 'raw');
my $line = deliver('raw', 'standard', $raw->{secret});
is $line->{body}, $payload, 'raw: the bytes as they came';
is_verified($line, 'raw: standardwebhooks', $raw->{secret});

my $template = webhook('template', payload_format => 'template',
    body_template => '{"text":"{{type}} of {{payload.order.note}}","total":{{payload.order.total}},"n":{{payload.big}},"sku":{{payload.items.0.sku}},"none":{{payload.no}},"id":{{id}}}');
$line = deliver('template', 'standard', $template->{secret});
is $line->{body}, qq({"text":"test.template of a \\"b\\" \\u00e9\\n&=","total":12.50,"n":12345678901234567890,"sku":"A-1","none":null,"id":"$line->{id}"}), 'template: JSON';
is_verified($line, 'template: standardwebhooks', $template->{secret});

my $form = webhook('form', payload_format => 'template', content_type => 'application/x-www-form-urlencoded', body_template => 'note={{payload.order.note}}&sku={{payload.items.0.sku}}');
$line = deliver('form', 'standard_text', $form->{secret});
is $line->{body}, 'note=a%20%22b%22%20%C3%A9%0A%26%3D&sku=A-1', 'template: form';
is $line->{headers}{'content-type'}, 'application/x-www-form-urlencoded', '... of its type';
is_verified($line, 'form: standardwebhooks', $form->{secret});

# A template that cannot be rendered takes nothing else with it: the same webhook's next delivery, other webhooks.
my $large = webhook('large', payload_format => 'template', body_template => '["' . ('{{payload}}' x 150) . '"]');
webhook('beside', events => ['test.large']);
$endpoints{'/beside'} = $endpoints{'/large'} = { verify => 'standard', secrets => [] };
configure();
my $too_large = json({ type => 'test.large', source => 's', payload => { x => 'x' x 10_000 } });
my $answer = $front->request('POST', '/events', headers => ['X-API-Key' => $sidecar->api_key, 'Content-Type' => 'application/json'], body => $too_large);
is $answer->status, 201, 'an event that is too large for a template';
my $id = $answer->json->{id};
my %state;
$t->wait_for(
    'its deliveries to end', sub {
        %state = map { $_->{url} => $_ } $sidecar->sql("SELECT w.url, d.state, d.attempts, a.error_type, a.error_message FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id JOIN attempts a ON a.delivery_id = d.id WHERE d.event_id = '$id'");
        return keys %state == 2 && !grep { $_->{state} !~ /dead|success/ } values %state;
    }
);
is_deeply [$state{"http://127.0.0.1:$port/large"}->@{qw(state attempts error_type)}], ['dead', 1, 'template_failed'], 'dead, without retries';
like $state{"http://127.0.0.1:$port/large"}{error_message}, qr/longer than 1048576 bytes/, '... and why';
is $state{"http://127.0.0.1:$port/beside"}{state}, 'success', 'the other webhook got it';
like deliver('large')->{body}, qr/\A\["\{ \\"order/, 'the next event of that webhook is delivered';

# -- secrets: every valid one signs -----------------------------------------------------------------
my $rotated = webhook('rotated');
$answer = call('POST', "/api/webhooks/$rotated->{id}/rotate-secret");
is $answer->status, 200, 'rotate-secret' or diag $answer->body;
my $new = $answer->json->{data};
like $new->{secret}, qr/\Awhsec_/, 'shows the new secret, once';
like $new->{others_valid_until}, qr/\A\d{4}-.*Z\z/, '... and how long the old one lives';
is_verified(deliver('rotated', 'standard', $rotated->{secret}, $new->{secret}), 'both verify', $rotated->{secret}, $new->{secret});
my $own = 'an own secret, chosen by hand';
is call('POST', "/api/webhooks/$rotated->{id}/rotate-secret", { secret => $own, grace_seconds => 0 })->status, 200, 'rotate without grace, to an own one';
my $own_shown = 'whsec_' . encode_base64($own, '');
$line = deliver('rotated', 'standard', $new->{secret}, $own_shown);
is $line->{verified}{$own_shown}, JSON::PP::true, 'the newest verifies';
isnt $line->{verified}{ $new->{secret} }, JSON::PP::true, 'the one before no longer';
is call('POST', "/api/webhooks/$rotated->{id}/rotate-secret")->status, 200, "rotated $_ times" for 2 .. 4;
is call('POST', "/api/webhooks/$rotated->{id}/rotate-secret")->status, 409, 'not a fifth secret at once';
is call('POST', "/api/webhooks/$rotated->{id}/rotate-secret", { grace_seconds => 0 })->status, 200, 'but in place of the others';
is call('POST', "/api/webhooks/$rotated->{id}/rotate-secret", { grace_seconds => 604_801 })->status, 422, 'a grace of more than a week';

# -- v1a ---------------------------------------------------------------------------------------------
my $pair = webhook('pair', sign_ed25519 => JSON::PP::true);
like $pair->{public_key}, qr/\Awhpk_/, 'the public key is shown';
my $jwks_url = 'http://127.0.0.1:' . $sidecar->port . $pair->{jwks_path};
is_verified(deliver('pair', 'v1a', $jwks_url), 'v1a by the JWK set', $jwks_url);
is_verified(deliver('pair', 'standard', $pair->{secret}), 'and v1 beside it', $pair->{secret});
my $jwks = Headgate::Http->connect(port => $sidecar->port)->request('GET', $pair->{jwks_path});
is $jwks->header('Content-Type'), 'application/jwk-set+json', 'the JWK set is public';
is_deeply [sort keys $jwks->json->{keys}[0]->%*], [qw(alg crv kid kty use x)], '... and has no private member';
is call('POST', "/api/webhooks/$pair->{id}/rotate-key-pair")->status, 200, 'rotate-key-pair';
isnt call('GET', "/api/webhooks/$pair->{id}")->json->{data}{webhook}{public_key}, $pair->{public_key}, '... gives another';
is_verified(deliver('pair', 'v1a', $jwks_url), 'which signs from then on', $jwks_url);
is call('PATCH', "/api/webhooks/$pair->{id}", { sign_ed25519 => JSON::PP::false })->status, 200, 'without it again';
unlike deliver('pair')->{headers}{'webhook-signature'}, qr/v1a/, 'nothing is signed with it';
is(Headgate::Http->connect(port => $sidecar->port)->request('GET', $pair->{jwks_path})->status, 404, 'and nothing is shown');
is call('POST', "/api/webhooks/$pair->{id}/rotate-key-pair")->status, 409, 'nor rotated';
is(Headgate::Http->connect(port => $sidecar->port)->request('GET', '/.well-known/webhooks/no-such/jwks.json')->status, 404, 'an unknown webhook');
# A key pair of one's own: RFC 8032, section 7.1, test 1.
my $seed = pack 'H*', '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60';
my $brought = webhook('brought', sign_ed25519 => JSON::PP::true, ed25519_key => 'whsk_' . encode_base64($seed, ''));
is $brought->{public_key}, 'whpk_' . encode_base64(pack('H*', 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'), ''), 'a key pair of one\'s own';

# -- the styles of providers -------------------------------------------------------------------------
for my $style (qw(stripe github shopify)) {
    my @headers = $style eq 'shopify' ? (headers => { 'X-Shopify-Shop-Domain' => 'shop.example', 'X-Shopify-API-Version' => '2025-01' }) : ();
    for my $secret (undef, 'a migrated secret of theirs') {
        my $name = $style . (defined $secret ? '_own' : '_new');
        my $hook = webhook($name, signature_style => $style, @headers, defined $secret ? (secret => $secret) : ());
        my $known = $secret // $hook->{secret};
        $line = deliver($name, $style, $known, 'another secret, not the right one');
        is $line->{verified}{$known}, JSON::PP::true, "$name: verified by its library" or diag json($line->{verified});
        isnt $line->{verified}{'another secret, not the right one'}, JSON::PP::true, '... and not with another secret';
        like $line->{headers}{'webhook-signature'}, qr/\Av1,/, '... besides our own';
        is $line->{headers}{'x-github-event'}, "test.$name", '... with its event' if $style eq 'github';
        is $line->{headers}{'x-shopify-topic'}, "test.$name", '... with its topic' if $style eq 'shopify';
    }
}
my $moving = webhook('moving', signature_style => 'stripe');
$new = call('POST', "/api/webhooks/$moving->{id}/rotate-secret")->json->{data}{secret};
is_verified(deliver('moving', 'stripe', $moving->{secret}, $new), 'stripe: every valid secret signs', $moving->{secret}, $new);

$t->done;
