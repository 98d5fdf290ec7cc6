# Tokens that must be refused, and near misses that must not: one table. Each row is refused with its
# status and leaves its reason in $headgate_auth_status, which the access log shows.
use v5.36;
use Test::More;

use Digest::SHA qw(hmac_sha256 hmac_sha512);
use Headgate::Credentials qw(base64url json jwt jwt_from_parts jwt_parts random_hex thumbprint);
use Headgate::Edge;
use Headgate::Test;

my $t = Headgate::Test->new;
my $edge = Headgate::Edge->start(
    $t,
    http      => 'large_client_header_buffers 8 64k;',
    locations => 'location = /protected { headgate_auth jwt; empty_gif; }',
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

# [what, token, status, reason or pattern]
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
);

for my $row (@table) {
    my ($what, $token, $status, $reason) = @$row;
    check('/protected', $what, [Authorization => "Bearer $token"], $status, $reason);
}

# Forms of the header.
check('/protected', 'bearer in any case', [Authorization => "bEaReR $good"], 200, 'ok');
check('/protected', 'no credential', [], 401, 'missing', qr/\ABearer realm="headgate"\z/);
check('/protected', 'Basic', [Authorization => 'Basic eDp5'], 401, 'missing', qr/\ABearer realm="headgate"\z/);
check('/protected', $_->[0], [Authorization => $_->[1]], 401, qr/missing|malformed/, qr/\ABearer realm="headgate"/)
    for ['Bearer and nothing', 'Bearer'], ['Bearer and a space', 'Bearer '];
check('/protected', 'an address outside allowed_ips', [Authorization => 'Bearer ' . $with_claim->(allowed_ips => '10.0.0.0/8')], 403, 'ip_denied');

# Nothing of a credential is in any log.
my $logs = $edge->nginx->error_text . join "\n", $edge->nginx->access_lines;
unlike $logs, qr/\Q$s\E/, 'no signature of a token is logged';
unlike $logs, qr/\Q$secret\E/, 'nor the secret';

# Two Authorization headers are nginx's own 400 (which does log the header).
is $edge->nginx->get('/protected', headers => [Authorization => "Bearer $good", Authorization => "Bearer $good"])->status, 400, 'two headers';

my $requests;
sub check ($target, $what, $headers, $status, $reason, $challenge = undef) {
    my $answer = $edge->nginx->get($target, headers => $headers);
    my $line   = ($edge->nginx->access_lines(++$requests))[-1];
    my ($logged_status, $auth_status) = split /\|/, $line;
    subtest $what => sub {
        is $answer->status, $status, "status $status" or diag $answer->body;
        is $logged_status, $status, 'also in the log';
        ref $reason ? like($auth_status, qr/\A(?:$reason)\z/, 'reason') : is($auth_status, $reason, 'reason');
        return if $status == 200;
        is $answer->header('Content-Type'), 'application/problem+json', 'problem+json';
        like $answer->header('WWW-Authenticate'), $challenge // qr/error="invalid_token"/, 'WWW-Authenticate' if $status == 401;
        is $answer->json->{detail}, 'Token expired', 'an expired token is told so' if $auth_status eq 'expired';
        unlike $answer->body, qr/signature|kid|issuer/i, 'the body does not say why' if $status == 401;
    };
}

$t->done;
