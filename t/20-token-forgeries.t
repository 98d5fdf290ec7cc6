# Tokens that must be refused, and near misses that must not: one table. Each row is refused with its
# status and leaves its reason in $headgate_auth_status, which the access log shows.
use v5.36;
use Test::More;

use Digest::SHA qw(hmac_sha256 hmac_sha512);
use Headgate::Credentials qw(base64url json jwt jwt_from_parts jwt_parts random_hex thumbprint);
use Headgate::Edge;
use Headgate::Keys;
use Headgate::Test;

my $t = Headgate::Test->new;
my $requests = 0;
my %key = map { $_ => Headgate::Keys->make($t, $_) } qw(RSA RSA-1024 P-256 P-384 P-521 Ed25519);
my ($rsa, $p256, $p384) = @key{qw(RSA P-256 P-384)};

# One location for each set of keys: what is in it, and more directives.
my %sets = (
    all        => [Headgate::Keys::jwks(map { $_->jwk } @key{qw(RSA P-256 P-384 P-521 Ed25519)})],
    pem        => [join '', map { $_->public_pem } @key{qw(RSA P-256 P-384 P-521 Ed25519)}],
    rs256      => [Headgate::Keys::jwks($rsa->jwk(alg => 'RS256'))],
    pinned     => [Headgate::Keys::jwks($rsa->jwk), 'alg=PS384'],
    allowed    => [Headgate::Keys::jwks($rsa->jwk, $p256->jwk), '', 'headgate_jwt_algorithms RS256 ES256;'],
    encryption => [Headgate::Keys::jwks($p384->jwk, $rsa->jwk(use => 'enc'), $p256->jwk(key_ops => ['sign']))],
    weak       => [Headgate::Keys::jwks($p384->jwk, $key{'RSA-1024'}->jwk)],
    secret     => [Headgate::Keys::jwks($rsa->jwk, { kty => 'oct', kid => 'o', k => base64url('s' x 48), alg => 'HS384' })],
    many       => [Headgate::Keys::jwks(map { { kty => 'oct', kid => "o$_", k => base64url($_ x 48), alg => 'HS384' } } 1 .. 9)],
    audience   => [Headgate::Keys::jwks($p256->jwk), '', 'headgate_jwt_audience shop other;'],
    foreign    => [Headgate::Keys::jwks($p256->jwk), 'issuer=https://id.example org=acme scopes=events:read', 'headgate_require_scope events:read;'],
);
my $locations = 'location = /protected { headgate_auth jwt; empty_gif; }';
for my $name (sort keys %sets) {
    my ($text, $parameters, $more) = $sets{$name}->@*;
    my $file = $t->write_file("sets/$name", $text);
    $locations .= " location = /$name { headgate_auth jwt; headgate_jwt_key_file $file @{[ $parameters // '' ]}; @{[ $more // '' ]} empty_gif; }\n";
}
my $edge = Headgate::Edge->start(
    $t,
    http      => 'large_client_header_buffers 8 64k;',
    locations => $locations . <<~'CONF',
        location = /either { headgate_auth jwt api_key; headgate_token_from header:Authorization cookie:session; empty_gif; }
        location = /scoped { headgate_auth jwt api_key; headgate_require_scope inbox:ack; empty_gif; }
        CONF
);
my $secret = $edge->token_secret;
my $now    = time;
my ($header, $claims) = jwt_parts($secret);
my $good   = $edge->token;
my ($h, $c, $s) = split /\./, $good;
my $signed = sub (%args) { jwt($secret, %args) };
my $with_header = sub (%members) { jwt($secret, header => \%members) };
my $with_claim  = sub (%members) { jwt($secret, claims => \%members) };
my $raw_claims  = sub ($name, $value) { jwt_from_parts($secret, $header, $claims =~ s/\}\z/,"$name":$value}/r) };
my $without     = sub ($json, $name) { my $value = JSON::PP->new->decode($json); delete $value->{$name}; json($value) };
my $raw_number  = sub ($name, $value) { jwt_from_parts($secret, $header, $without->($claims, $name) =~ s/\}\z/,"$name":$value}/r) };

# Tokens of key pairs.
my @algorithms = ((map { [$_, 'RSA'] } qw(RS256 RS384 RS512 PS256 PS384 PS512)), ['ES256', 'P-256'], ['ES384', 'P-384'], ['ES512', 'P-521'], ['EdDSA', 'Ed25519']);
my @as_secret = (
    ['PEM', $rsa->public_pem], ['PEM without its last line break', $rsa->public_pem =~ s/\n\z//r], ['PEM behind a space', ' ' . $rsa->public_pem],
    ['DER', $rsa->der], ['a JWK', json($rsa->jwk)], ['a modulus', $rsa->jwk->{n}],
);
my $signed_as = sub ($pair, $name, $kid, $algorithm) {
    my ($head, $body) = jwt_parts('', header => { alg => $name, kid => $kid });
    my $text = base64url($head) . '.' . base64url($body);
    return "$text." . base64url($pair->sign($algorithm, $text));
};
my $es_claim  = sub (%members) { $p256->token('ES256', claims => \%members) };
my ($es_signed) = $p256->token('ES256') =~ /\A(.*)\./;
my $es_raw    = $p256->sign('ES256', $es_signed);
my $es_der    = Headgate::Keys::openssl('dgst', '-sha256', '-sign', $p256->{private}, \$es_signed);
my $with_signature = sub ($bytes) { "$es_signed." . base64url($bytes) };

# [what, token, status, reason or pattern, location: /protected]
my @table = (
    ['a good token', $good, 200, 'ok'],
    ['without kid', $with_header->(kid => undef), 200, 'ok'],
    ['without typ', $with_header->(typ => undef), 200, 'ok'],
    ['a fractional exp', $raw_number->(exp => ($now + 60) . '.75'), 200, 'ok'],
    ['iat 20 s ahead', $with_claim->(iat => $now + 20), 200, 'ok'],

    # alg
    (map { ["alg $_", $with_header->(alg => $_), 401, 'bad_algorithm'] } qw(none None NONE hs256 HS384 HS512 RS256 ES256 EdDSA)),
    ['alg none without a signature', base64url('{"alg":"none"}') . ".$c.", 401, qr/malformed|bad_algorithm/],
    ['alg missing', $with_header->(alg => undef), 401, qr/malformed|bad_algorithm/],
    ['alg a number', $with_header->(alg => 256), 401, qr/malformed|bad_algorithm/],
    ['alg a list', $with_header->(alg => ['HS256']), 401, qr/malformed|bad_algorithm/],
    ['alg HS512, truly made with it', jwt($secret, header => { alg => 'HS512' }, mac => 'HS512'), 401, 'bad_algorithm'],

    # members of the header
    ['crit', $with_header->(crit => ['exp']), 401, 'malformed'],
    ['an empty crit', $with_header->(crit => []), 401, 'malformed'],
    ['b64 false', $with_header->(b64 => JSON::PP::false), 401, 'malformed'],
    ['enc', $with_header->(enc => 'A256GCM'), 401, qr/malformed|bad_algorithm/],
    ['zip', $with_header->(zip => 'DEF'), 401, qr/malformed|bad_algorithm/],
    ['a key of its own in jwk', jwt('evil' x 16, header => { kid => undef, jwk => { kty => 'oct', k => base64url('evil' x 16) } }), 401, qr/bad_signature|malformed/],
    ['a URL of its own in jku', jwt('evil' x 16, header => { kid => undef, jku => 'http://127.0.0.1:1/keys' }), 401, qr/bad_signature|malformed/],
    ['x5u and x5c', jwt('evil' x 16, header => { kid => undef, x5u => 'http://127.0.0.1:1/', x5c => ['AAAA'] }), 401, qr/bad_signature|malformed/],

    # kid
    ['kid unknown', $with_header->(kid => 'nobody'), 401, 'unknown_kid'],
    ['kid empty', $with_header->(kid => ''), 401, qr/unknown_kid|malformed/],
    ['kid a number', $with_header->(kid => 7), 401, 'malformed'],
    ['kid a path', $with_header->(kid => '../../dev/null'), 401, 'unknown_kid'],
    ['kid with NUL', $with_header->(kid => thumbprint($secret) . "\0"), 401, qr/unknown_kid|malformed/],
    ['kid of 3 KiB', $with_header->(kid => 'k' x 3000), 401, qr/unknown_kid|malformed/],
    ['kid of 8 KiB', $with_header->(kid => 'k' x 8192), 401, 'too_large'],

    # signature and form
    ['another secret', jwt(random_hex(32), header => { kid => thumbprint($secret) }), 401, 'bad_signature'],
    ['another secret, no kid', jwt(random_hex(32), header => { kid => undef }), 401, 'bad_signature'],
    ['an empty secret', jwt('', header => { kid => thumbprint($secret) }), 401, 'bad_signature'],
    ['claims of another token', join('.', $h, base64url($claims =~ s/events:write/admin/r), $s), 401, 'bad_signature'],
    ['one segment', $h, 401, 'malformed'],
    ['two segments', "$h.$c", 401, 'malformed'],
    ['four segments', "$good.$s", 401, 'malformed'],
    ['five segments', "$good.$s.$s", 401, 'malformed'],
    ['an empty header', ".$c.$s", 401, 'malformed'],
    ['an empty payload', "$h..$s", 401, 'malformed'],
    ['an empty signature', "$h.$c.", 401, qr/malformed|bad_signature/],
    ['a signature of one byte', "$h.$c.AA", 401, qr/malformed|bad_signature/],
    ['a truncated signature', "$h.$c." . substr($s, 0, -2), 401, qr/malformed|bad_signature/],
    ['padding', "$good=", 401, 'malformed'],
    ['the other alphabet', "$h.$c." . ($s =~ tr/-_/+\//r =~ s/\A./+/r), 401, 'malformed'],
    ['white space inside', "$h. $c.$s", 401, 'malformed'],
    ['non-canonical trailing bits', "$h.$c." . substr($s, 0, -1) . (chr(1 + ord substr $s, -1)), 401, qr/malformed|bad_signature/],
    ['over 8 KiB', $with_claim->(pad => 'x' x 7000), 401, 'too_large'],

    # JSON
    ['header member twice', jwt_from_parts($secret, '{"alg":"HS256","alg":"HS256"}', $claims), 401, 'malformed'],
    ['claim twice', $raw_claims->(sub => '"root"'), 401, 'malformed'],
    ['claim twice, escaped', jwt_from_parts($secret, $header, $claims =~ s/\}\z/,"s\\u0075b":"root"}/r), 401, 'malformed'],
    ['depth 11', $raw_claims->(deep => '[' x 11 . ']' x 11), 401, 'malformed'],
    ['invalid UTF-8', $raw_claims->(name => qq("\xff")), 401, 'malformed'],
    ['NUL in JSON', $raw_claims->(name => '"\u0000"'), 401, qr/malformed|bad_claim/],
    ['payload a list', jwt_from_parts($secret, $header, '[]'), 401, 'malformed'],
    ['header a string', jwt_from_parts($secret, '"HS256"', $claims), 401, 'malformed'],
    ['payload empty', jwt_from_parts($secret, $header, '{}'), 401, 'missing_claim'],
    ['trailing bytes', jwt_from_parts($secret, $header, "$claims x"), 401, 'malformed'],
    ['a BOM', jwt_from_parts($secret, $header, "\xef\xbb\xbf$claims"), 401, 'malformed'],
    ['not JSON', jwt_from_parts($secret, $header, 'claims'), 401, 'malformed'],

    # times
    ['expired', $with_claim->(exp => $now - 1), 401, 'expired'],
    ['expiring exactly now', $with_claim->(exp => $now), 401, 'expired'],
    ['exp missing', $with_claim->(exp => undef), 401, 'missing_claim'],
    (map { ["exp $_", $raw_number->(exp => $_), 401, qr/bad_claim|expired|malformed/] }
        '"' . ($now + 60) . '"', 'true', 'null', '-1', '1e30', '9223372036854775807', '99999999999999999999', '{}', '[]'),
    ['nbf ahead', $with_claim->(nbf => $now + 60), 401, 'not_yet_valid'],
    ['nbf a string', $raw_claims->(nbf => '"0"'), 401, 'bad_claim'],
    ['iat an hour ahead', $with_claim->(iat => $now + 3600), 401, 'not_yet_valid'],
    ['iat a bool', $raw_number->(iat => 'false'), 401, 'bad_claim'],

    # who
    (map { ["iss '$_'", $with_claim->(iss => $_), 401, 'bad_issuer'] } 'headgate ', 'Headgate', 'headgate/', 'http://headgate'),
    ['iss with NUL', $with_claim->(iss => "headgate\0"), 401, 'malformed'],
    ['iss empty', $with_claim->(iss => ''), 401, qr/bad_claim|bad_issuer/],
    ['iss missing', $with_claim->(iss => undef), 401, 'missing_claim'],
    ['iss a list', $with_claim->(iss => ['headgate']), 401, qr/bad_claim|bad_issuer/],
    ['sub missing', $with_claim->(sub => undef), 401, 'missing_claim'],
    ['org missing', $with_claim->(org => undef), 403, 'no_org'],
    ['org a number', $with_claim->(org => 7), 401, 'bad_claim'],
    ['org with a line break', $with_claim->(org => "a\r\nb"), 401, 'bad_claim'],
    ['org of 65 bytes', $with_claim->(org => 'o' x 65), 401, 'bad_claim'],
    ['scope a list', $with_claim->(scope => ['admin']), 401, 'bad_claim'],
    ['allowed_ips a number', $with_claim->(allowed_ips => 7), 401, 'bad_claim'],

    # each algorithm with its key, by kid and by thumbprint
    (map { ["$_->[0] with $_->[1], JWKS", $key{ $_->[1] }->token($_->[0]), 200, 'ok', '/all'] } @algorithms),
    (map { ["$_->[0] with $_->[1], PEM", $key{ $_->[1] }->token($_->[0], header => { kid => undef }), 200, 'ok', '/pem'] } @algorithms),
    ['HS384 with a secret of a JWKS', jwt('s' x 48, header => { alg => 'HS384', kid => 'o' }, mac => 'HS384'), 200, 'ok', '/secret'],

    # many keys that fit
    ['the eighth key, no kid', jwt('8' x 48, header => { alg => 'HS384', kid => undef }, mac => 'HS384'), 200, 'ok', '/many'],
    ['the ninth key, no kid', jwt('9' x 48, header => { alg => 'HS384', kid => undef }, mac => 'HS384'), 401, 'too_many_keys', '/many'],
    ['the ninth key by its kid', jwt('9' x 48, header => { alg => 'HS384', kid => 'o9' }, mac => 'HS384'), 200, 'ok', '/many'],
    ['no key, no kid', jwt('0' x 48, header => { alg => 'HS384', kid => undef }, mac => 'HS384'), 401, 'too_many_keys', '/many'],

    # the wrong algorithm for a key
    (map { ["HS256 made with the public key as $_->[0]", jwt($_->[1], header => { kid => $rsa->kid }), 401, 'bad_algorithm', '/all'] } @as_secret),
    (map { ["HS256 made with the public key as $_->[0], no kid", jwt($_->[1], header => { kid => undef }), 401, 'bad_algorithm', '/pem'] } @as_secret),
    ['HS256 beside a secret for HS384', jwt('s' x 48, header => { kid => 'o' }), 401, 'bad_algorithm', '/secret'],
    ['HS384 made with the public key beside a secret', jwt($rsa->public_pem, header => { alg => 'HS384', kid => 'o' }, mac => 'HS384'), 401, 'bad_signature', '/secret'],
    ["alg that differs from the JWK's", $rsa->token('RS512'), 401, 'bad_algorithm', '/rs256'],
    ["alg that differs from the file's", $rsa->token('RS256'), 401, 'bad_algorithm', '/pinned'],
    ["alg of the file", $rsa->token('PS384'), 200, 'ok', '/pinned'],
    ['alg not in the allow list', $rsa->token('PS256'), 401, 'bad_algorithm', '/allowed'],
    ['alg in the allow list', $rsa->token('RS256'), 200, 'ok', '/allowed'],
    ['ES256 with a P-384 key', $signed_as->($p384, 'ES256', $p384->kid, 'ES384'), 401, 'bad_algorithm', '/all'],
    ['ES384 with a P-256 key', $p256->token('ES384'), 401, 'bad_algorithm', '/all'],
    ['RS256 named PS256', $signed_as->($rsa, 'PS256', $rsa->kid, 'RS256'), 401, 'bad_signature', '/all'],
    ['EdDSA named ES256', $signed_as->($key{Ed25519}, 'ES256', $p256->kid, 'EdDSA'), 401, 'bad_signature', '/all'],
    ['a key for encryption', $rsa->token('RS256'), 401, 'unknown_kid', '/encryption'],
    ['a key without verify among its key_ops', $p256->token('ES256'), 401, 'unknown_kid', '/encryption'],
    ['RSA of 1024 bits', $key{'RSA-1024'}->token('RS256'), 401, 'unknown_kid', '/weak'],

    # ECDSA signatures
    (map { my ($what, $bytes) = @$_; ["ECDSA: $what", $with_signature->($bytes), 401, qr/bad_signature|malformed/, '/all'] }
        ['r zero', "\0" x 32 . substr($es_raw, 32)], ['s zero', substr($es_raw, 0, 32) . "\0" x 32], ['r and s zero', "\0" x 64],
        ['DER', $es_der], ['a byte short', substr $es_raw, 0, 63], ['a byte long', "$es_raw\0"], ['s and r', substr($es_raw, 32) . substr($es_raw, 0, 32)], ['empty', '']),
    ['a signature of 21,830 characters', "$es_signed." . 'A' x 21_830, 401, 'too_large', '/all'],

    # audience
    ['aud a string', $es_claim->(aud => 'shop'), 200, 'ok', '/audience'],
    ['aud a list', $es_claim->(aud => ['a', 'other']), 200, 'ok', '/audience'],
    (map { ["aud $_->[0]", $es_claim->(aud => $_->[1]), 401, qr/bad_audience|bad_claim/, '/audience'] }
        ['missing', undef], ['another', 'shops'], ['near', 'Shop'], ['an empty string', ''], ['an empty list', []], ['an object', { shop => 1 }], ['a list of objects', [{ shop => 1 }]], ['a number', 7]),

    # issuers
    ['a foreign issuer', $es_claim->(iss => 'https://id.example', org => 'evil', scope => 'admin'), 200, 'ok', '/foreign'],
    ['our own issuer under its key', $es_claim->(iss => 'headgate'), 401, 'bad_issuer', '/foreign'],
    (map { ["iss '$_'", $es_claim->(iss => $_), 401, 'bad_issuer', '/foreign'] } 'https://id.example/', 'http://id.example', 'https://id.example.', 'https://ID.example'),
    ['its key for our issuer', jwt($secret, claims => { iss => 'https://id.example' }), 401, qr/unknown_kid|bad_issuer|bad_algorithm/, '/foreign'],
    ['a scope above its ceiling', $es_claim->(iss => 'https://id.example', scope => 'events:write'), 403, 'insufficient_scope', '/foreign'],

    # scope
    ['a scope that is not enough', $with_claim->(scope => 'events:write inbox:read'), 403, 'insufficient_scope', '/scoped'],
    ['no scope', $with_claim->(scope => undef), 403, 'insufficient_scope', '/scoped'],
    ['enough scope', $with_claim->(scope => 'inbox:*'), 200, 'ok', '/scoped'],
);

for my $row (@table) {
    my ($what, $token, $status, $reason, $target) = @$row;
    check($target // '/protected', $what, [Authorization => "Bearer $token"], $status, $reason);
}

# Forms of the header, and what is not one token. [what, location, headers, status, reason]
my $api_key = $edge->add_key(scopes => 'inbox:read');
my $bearer  = [Authorization => "Bearer $good"];
my $challenge_alone = qr/\ABearer realm="headgate"\z/;
check($_->[1], $_->[0], $_->[2], @$_[3 .. $#$_]) for (
    ['bearer in any case', '/protected', [Authorization => "bEaReR $good"], 200, 'ok'],
    ['no credential', '/protected', [], 401, 'missing', $challenge_alone],
    ['Basic', '/protected', [Authorization => 'Basic eDp5'], 401, 'missing', $challenge_alone],
    ['Bearer and nothing', '/protected', [Authorization => 'Bearer'], 401, 'missing', $challenge_alone],
    ['Bearer and a space', '/protected', [Authorization => 'Bearer '], 401, 'missing', $challenge_alone],
    ['an address outside allowed_ips', '/protected', [Authorization => 'Bearer ' . $with_claim->(allowed_ips => '10.0.0.0/8')], 403, 'ip_denied'],
    ['a key for another address', '/either', ['X-API-Key' => $edge->add_key(allowed_ips => '10.0.0.0/8')], 403, 'ip_denied'],
    ['JSON serialization', '/protected', [Authorization => 'Bearer ' . json({ protected => $h, payload => $c, signature => $s })], 401, 'malformed'],
    ['a token in a cookie', '/either', [Cookie => "a=b; session=$good"], 200, 'ok'],
    ['in a header and a cookie', '/either', [@$bearer, Cookie => "session=$good"], 400, 'ambiguous'],
    ['in a cookie twice', '/either', [Cookie => "session=$good; session=$good"], 400, 'ambiguous'],
    ['a token and a key', '/either', [@$bearer, 'X-API-Key' => $api_key], 400, 'ambiguous'],
    ['two keys', '/either', ['X-API-Key' => $api_key, 'X-API-Key' => $api_key], 400, 'ambiguous'],
    ['a key, and again as bearer', '/either', ['X-API-Key' => $api_key, Authorization => "Bearer $api_key"], 400, 'ambiguous'],
    ['an unknown key', '/either', ['X-API-Key' => Headgate::Credentials::make_api_key()], 401, 'unknown_key'],
    ['a key with a wrong checksum', '/either', ['X-API-Key' => substr($api_key, 0, -1) . ($api_key =~ /0\z/ ? 1 : 0)], 401, 'bad_key'],
    ['a revoked key', '/either', ['X-API-Key' => $edge->add_key(active => 0)], 401, 'revoked'],
    ['an expired key', '/either', ['X-API-Key' => $edge->add_key(expires_at => ($now - 1) * 1000)], 401, 'expired'],
    ['a key without the scope', '/scoped', ['X-API-Key' => $api_key], 403, 'insufficient_scope'],
);
check('/protected', 'OPTIONS is not exempt', [], 401, 'missing', $challenge_alone, 'OPTIONS');

# Nothing of a credential is in any log.
my $logs = $edge->nginx->error_text . join "\n", $edge->nginx->access_lines;
unlike $logs, qr/\Q$s\E/, 'no signature of a token is logged';
unlike $logs, qr/\Q$secret\E/, 'nor the secret';

# Two Authorization headers are nginx's own 400 (which does log the header).
is $edge->nginx->get('/protected', headers => [Authorization => "Bearer $good", Authorization => "Bearer $good"])->status, 400, 'two headers';
++$requests;


# A key that is gone takes its tokens along, however often they were seen.
my $gone = $p256->token('ES256');
check('/all', 'before its key is gone', [Authorization => "Bearer $gone"], 200, 'ok') for 1, 2;
$t->write_file('sets/all', Headgate::Keys::jwks($rsa->jwk));
my ($old_worker) = $edge->nginx->worker_pids;
$edge->nginx->reload;
$t->wait_for('the old worker to leave', sub { !grep { $_ == $old_worker } $edge->nginx->worker_pids });
check('/all', 'after its key is gone', [Authorization => "Bearer $gone"], 401, 'unknown_kid');

my %ERROR;
BEGIN { %ERROR = (missing => '', ambiguous => 'invalid_request', ip_denied => '', no_org => '', insufficient_scope => 'insufficient_scope') }

sub check ($target, $what, $headers, $status, $reason, $challenge = undef, $method = 'GET') {
    my $answer = $edge->nginx->request($method, $target, headers => $headers);
    my $line   = ($edge->nginx->access_lines(++$requests))[-1];
    my ($logged_status, $auth_status) = split /\|/, $line;
    subtest $what => sub {
        is $answer->status, $status, "status $status" or diag $answer->body;
        is $logged_status, $status, 'also in the log';
        ref $reason ? like($auth_status, qr/\A(?:$reason)\z/, 'reason') : is($auth_status, $reason, 'reason');
        return if $status == 200;
        is $answer->header('Content-Type'), 'application/problem+json', 'problem+json';
        my $header = $answer->header('WWW-Authenticate') // '';
        my ($error) = $header =~ /error="(\w+)"/;
        is $error // '', $ERROR{$auth_status} // 'invalid_token', 'error of RFC 6750';
        like $header, $challenge // qr/\ABearer realm="headgate"/, 'WWW-Authenticate' if $status == 401;
        is $answer->json->{detail}, 'Token expired', 'an expired token is told so' if $auth_status eq 'expired';
        unlike $answer->body, qr/signature|kid|issuer/i, 'the body does not say why' if $status == 401;
    };
}

$t->done;
