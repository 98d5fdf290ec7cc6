# What the directives of authentication mean: places of credentials, claims as variables and what may be asked of them,
# lists that replace the parent's, and what `nginx -t` refuses. Forgeries are in t/20, remote keys in t/28.
use v5.36;
use Test::More;

use Headgate::Credentials qw(base64url random_hex);
use Headgate::Edge;
use Headgate::Keys;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $first = Headgate::Keys->make($t, 'P-256');
my $other = Headgate::Keys->make($t, 'Ed25519');
my $html  = $t->dir('html');
$t->write_file('html/page', "page\n");
my $show = q{add_header X-Seen "$headgate_claim_email|$headgate_claim_level|$headgate_claim_list|$groups|$deep|$headgate_claim_nothing|$headgate_sub" always; empty_gif;};

# What an upstream is told, shown by itself.
my $told = $t->port;
my $edge = Headgate::Edge->start(
    $t, http => <<~"CONF",
        headgate_jwt_claim_set \$groups realm_access roles;
        headgate_jwt_claim_set \$deep   "https://shop.example/ns" A b;
        map \$groups \$is_operator { "~(^|,)operator(,|\$)" 1; default 0; }
        map \$headgate_key_prefix \$is_key { "" 0; default 1; }
        map "\$headgate_claim_email\$is_key" \$has_email_or_key { "0" ""; default 1; }
        underscores_in_headers on;
        CONF
    locations => <<~"CONF" =~ s/TOLD/$told/r,
        location = /claims   { headgate_auth jwt api_key; $show }
        location = /operator { headgate_auth jwt api_key; headgate_jwt_require \$is_operator error=403; empty_gif; }
        location = /two      { headgate_auth jwt; headgate_jwt_require \$headgate_claim_email \$headgate_claim_level; headgate_jwt_require \$is_operator error=403; empty_gif; }
        location = /mapped   { headgate_auth jwt api_key; headgate_jwt_require \$has_email_or_key; empty_gif; }
        location = /any      { headgate_auth jwt; headgate_jwt_require \$is_operator; satisfy any; deny all; empty_gif; }
        location = /headers  { headgate_auth jwt api_key; headgate_token_from header:X-Token header:Authorization; headgate_api_key_from header:X-Key; empty_gif; }
        location = /cookie   { headgate_auth jwt api_key; headgate_token_from cookie:session; headgate_api_key_from bearer; empty_gif; }
        location = /argument { headgate_auth api_key; headgate_api_key_from header:X-API-Key arg:api_key; empty_gif; }
        location = /one-place { headgate_auth jwt api_key; headgate_token_from header:X-Auth; headgate_api_key_from header:x_auth; empty_gif; }
        location /parent/ {
            headgate_auth jwt;
            headgate_jwt_key_file @{[ $first->public_file ]} issuer=https://a.example org=org-a scopes=*:read;
            headgate_jwt_key_file @{[ $other->public_file ]} issuer=https://b.example org=claim:team scopes=admin;
            headgate_jwt_audience api;
            headgate_jwt_leeway 60s;
            headgate_jwt_require \$headgate_claim_email;
            root $html;
            try_files /page =404;
            location /parent/child/ { try_files /page =404; }
            location /parent/other/ {
                headgate_jwt_key_file @{[ $other->public_file ]} issuer=https://b.example org=claim:team scopes=admin;
                headgate_jwt_require \$headgate_claim_level;
                headgate_jwt_audience other;
                headgate_jwt_leeway 0s;
                try_files /page =404;
            }
        }
        location = /proxied {
            headgate_auth jwt api_key;
            proxy_set_header X-Headgate-Org \$headgate_org;
            proxy_set_header X-Headgate-Subject \$headgate_sub;
            proxy_set_header X_Headgate_Org "";
            proxy_pass http://127.0.0.1:TOLD/told;
        }
        CONF
    server => "listen 127.0.0.1:$told;" . ' location = /told { add_header X-Told "$http_x_headgate_org|$http_x_headgate_subject" always; empty_gif; }',
);
my $nginx = $edge->nginx;
my $asked = 0;
my $ask   = sub ($target, @headers) { $asked++; $nginx->get($target, headers => \@headers) };
# What nginx has logged of the last request: it does so behind the answer.
my $logged = sub ($field) { (split /\|/, ($nginx->access_lines($asked))[$asked - 1])[$field] };
my $token = sub (%claims) { $edge->token(claims => \%claims) };
my $bearer = sub ($credential) { (Authorization => "Bearer $credential") };
my $key   = $edge->add_key;
my $good  = $edge->token;

# -- claims ------------------------------------------------------------------------------------------
my $seen = sub (%claims) { $ask->('/claims', $bearer->($token->(%claims)))->header('X-Seen') };
my %rich = (
    email => 'zoe@example.com', level => 3, list => ['a', 'b', 7], realm_access => { roles => ['operator', 'viewer'] },
    'https://shop.example/ns' => { A => { b => JSON::PP::true } },
);
is $seen->(%rich), 'zoe@example.com|3|a,b,7|operator,viewer|1||api', 'claims: text, number, list, nested, absent';
is $seen->(email => "a\r\nX-Evil: 1", level => 0, list => {}, realm_access => 'roles', 'https://shop.example/ns' => { a => { b => 1 } }), '|0||||' . '|api',
    'claims: line breaks, zero, an object, a path through text, another case';
is $ask->('/claims', 'X-API-Key' => $key)->header('X-Seen'), '||||||', 'an API key has no claims';
is $ask->('/claims', $bearer->("$good-"))->header('X-Seen'), '||||||', 'and a refused token shows none';

# -- require -------------------------------------------------------------------------------------------
my $status = sub ($target, @headers) { $ask->($target, @headers)->status };
is $status->('/operator', $bearer->($token->(%rich))), 200, 'require: met';
my $refused = $ask->('/operator', $bearer->($token->(realm_access => { roles => ['operators'] })));
is $refused->status, 403, 'require: not met, error=403';
is $refused->header('WWW-Authenticate'), undef, '... which no other credential of the kind would mend';
is $logged->(1), 'claim_required', '... claim_required';
is $logged->(3), '-', '... and no principal is left';
is $status->('/operator', 'X-API-Key' => $key), 403, 'an API key does not get around it';
$refused = $ask->('/two', $bearer->($token->(%rich, level => 0)));
is $refused->status, 401, 'require: 0 is not met, 401 unless said';
like $refused->header('WWW-Authenticate'), qr/error="invalid_token"/, '... invalid_token';
is $status->('/two', $bearer->($token->(%rich, realm_access => undef))), 403, 'several: the first that is not met counts';
is $status->('/two', $bearer->($token->(%rich))), 200, '... all met';
is $status->('/mapped', $bearer->($token->(%rich))), 200, 'a map of a claim or a key: a token with the claim';
is $status->('/mapped', 'X-API-Key' => $key), 200, '... a key';
is $status->('/mapped', $bearer->($good)), 401, '... a token without';
is $status->('/any', $bearer->($token->(%rich))), 200, 'satisfy any: met';
is $status->('/any', $bearer->($good)), 401, '... not met';

# -- places ----------------------------------------------------------------------------------------------
# [target, headers, status, what]
my @places = (
    ['/headers', ['X-Token' => $good], 200, 'a bare token in a header'],
    ['/headers', ['x-token' => "bearer $good"], 200, '... with Bearer'],
    ['/headers', ['X_Token' => $good], 200, '... with the underscore that nginx lets through'],
    ['/headers', [$bearer->($good)], 200, '... or in Authorization'],
    ['/headers', ['X-Token' => $good, $bearer->($good)], 400, 'not in both'],
    ['/headers', ['X-Token' => $good, 'X_Token' => $good], 400, 'nor in two that differ by an underscore'],
    ['/headers', ['X-Token' => '', $bearer->($good)], 200, 'an empty header is no credential'],
    ['/headers', ['X-Key' => $key], 200, 'a key in its header'],
    ['/headers', ['X-API-Key' => $key], 401, '... and no longer in the usual one'],
    ['/headers', [$bearer->($key)], 401, 'bearer is not among the places of keys: a key there is no token'],
    ['/headers', ['X-Token' => 'Basic eDp5'], 401, 'another scheme in a header of its own is no token'],
    ['/cookie', [Cookie => "session=$good"], 200, 'a token in a cookie'],
    ['/cookie', [Cookie => "theme=dark; session=$good ; a=b"], 200, '... among others'],
    ['/cookie', [Cookie => "Session=$good"], 401, '... of this very name'],
    ['/cookie', [Cookie => "xsession=$good"], 401, '... and no longer one'],
    ['/cookie', [Cookie => 'session='], 401, '... not empty'],
    ['/cookie', [Cookie => "session=$good", $bearer->($key)], 400, 'a cookie and a key'],
    ['/cookie', [$bearer->($good)], 401, 'a token where only keys are looked for is a bad key'],
    ["/argument?api_key=$key", [], 200, 'a key as argument'],
    ['/argument?a=b&api_key=' . $key =~ s/_/%5F/gr . '&c', [], 200, '... escaped'],
    ["/argument?xapi_key=$key", [], 401, '... of this very name'],
    ["/argument?api_key=$key&api_key=$key", [], 400, '... once'],
    ["/argument?api_key=$key", ['X-API-Key' => $key], 400, '... or in the header'],
    ["/argument?api_key=$key", [$bearer->('other')], 200, 'an Authorization that is no place is not looked at'],
    ["/headers?api_key=$key", [], 401, 'an argument must be asked for'],
    ['/one-place', ['X-Auth' => $good], 200, 'one header for both: a token'],
    ['/one-place', ['X-Auth' => $key], 200, '... a key'],
);
for my $case (@places) {
    my ($target, $headers, $expected, $what) = @$case;
    is $status->($target, @$headers), $expected, "places: $what";
}

# -- lists and levels --------------------------------------------------------------------------------------
my $of_a = sub (%claims) { $first->token('ES256', header => { kid => undef }, claims => { iss => 'https://a.example', aud => 'api', email => 'e', %claims }) };
my $of_b = sub (%claims) { $other->token('EdDSA', header => { kid => undef }, claims => { iss => 'https://b.example', aud => 'api', email => 'e', team => 'team-b', %claims }) };
is $status->('/parent/', $bearer->($of_a->())), 200, 'several issuers: the first';
is $logged->(3), 'org-a', '... with its fixed organization';
is $status->('/parent/', $bearer->($of_b->())), 200, '... the second';
is $logged->(3), 'team-b', '... with its claim';
is $status->('/parent/', $bearer->($of_b->(team => undef))), 403, '... or without: 403';
is $status->('/parent/', $bearer->($of_b->(iss => 'https://a.example'))), 401, "one's key for the other's issuer";
is $status->('/parent/', $bearer->($edge->token(claims => { aud => 'api', email => 'e' }))), 401, "the http level's source is replaced, not added to";
is $status->('/parent/', $bearer->($of_a->(aud => 'other'))), 401, 'audience';
is $status->('/parent/', $bearer->($of_a->(exp => time - 30))), 200, 'leeway';
is $status->('/parent/', $bearer->($of_a->(email => undef))), 401, 'require';
is $status->('/parent/child/', $bearer->($of_a->(exp => time - 30))), 200, 'a child inherits it all';
is $status->('/parent/child/', $bearer->($of_a->(email => undef))), 401, '... require too';
is $status->('/parent/other/', $bearer->($of_a->(aud => 'other', level => 1))), 401, "a child's sources replace the parent's";
is $status->('/parent/other/', $bearer->($of_b->(aud => 'other', level => 1, email => undef))), 200, '... its audience and requirements, too';
is $status->('/parent/other/', $bearer->($of_b->(aud => 'other', level => 1, exp => time - 30))), 401, '... and its leeway';

# -- what upstreams are told -----------------------------------------------------------------------------------
is $ask->('/proxied', 'X-API-Key' => $key, 'X-Headgate-Org' => 'evil', 'X-Headgate-Subject' => 'root', 'X_Headgate_Org' => 'evil')->header('X-Told'), 'org-test|',
    'no forged header reaches the upstream, underscore variants included';

# -- nginx -t ----------------------------------------------------------------------------------------------------
my $secret   = $t->write_file('hs.key', 'b' x 128 . "\n");
my $public   = $first->public_file;
my $oct      = Headgate::Keys::jwks({ kty => 'oct', kid => 'o', k => base64url('s' x 32) });
my $open_oct = $t->write_file('open-oct.json', $oct, 0644);
my $oct_file = $t->write_file('oct.json', $oct);
my $private  = $t->write_file('private.pem', $t->read_file($first->{private}));
my $big      = $t->write_file('big.json', ' ' x 65_537);
my $foreign  = 'issuer=https://id.example org=acme scopes=events:read';
my $source   = "headgate_jwt_key_file $secret alg=HS256;";
my $location = sub ($text) { "location / { headgate_auth jwt; $text }" };
my @cases = (
    ['a public key that all may read', $location->("headgate_jwt_key_file $public;"), undef],
    ['a JWKS with a secret of 0600', $location->("headgate_jwt_key_file $oct_file;"), undef],
    ['a JWKS with a secret that all may read', $location->("headgate_jwt_key_file $open_oct;"), qr/open-oct\.json.*chmod 600/],
    ['a secret for HS512', $location->("headgate_jwt_key_file $secret alg=HS512;"), undef],
    ['a private key', $location->("headgate_jwt_key_file $private;"), qr/private/],
    ['a key file over 64 KiB', $location->("headgate_jwt_key_file $big;"), qr/larger than 65536/],
    ['alg that the key cannot serve', $location->("headgate_jwt_key_file $public alg=RS256;"), qr/RS256/],
    ['a foreign issuer, complete', $location->("headgate_jwt_key_file $public $foreign;"), undef],
    ['a foreign issuer without org', $location->("headgate_jwt_key_file $public issuer=https://id.example scopes=events:read;"), qr/org=/],
    ['a foreign issuer without scopes', $location->("headgate_jwt_key_request /k issuer=https://id.example org=claim:t;"), qr/scopes=/],
    ['an invalid ceiling', $location->("headgate_jwt_key_file $public issuer=https://id.example org=a \"scopes=events:read Nonsense\";"), qr/scopes/],
    ['org=claim: without a name', $location->("headgate_jwt_key_file $public issuer=https://id.example org=claim: scopes=admin;"), qr/org=claim:/],
    ['an org of 65 bytes', $location->("headgate_jwt_key_file $public issuer=https://id.example org=@{[ 'o' x 65 ]} scopes=admin;"), qr/64 bytes/],
    ['nine sources', $location->("headgate_jwt_key_file $public;" x 9), qr/more than 8/],
    ['an allow list', $location->("$source headgate_jwt_algorithms HS256;"), undef],
    ['an allowed algorithm that no key serves', $location->("$source headgate_jwt_algorithms HS256 RS256;"), qr/RS256/],
    ['an algorithm that fetched keys may serve', $location->("headgate_jwt_key_request /k; headgate_jwt_algorithms ES512;"), undef],
    ['a symmetric one, which they may not', $location->("headgate_jwt_key_request /k; headgate_jwt_algorithms HS256;"), qr/HS256/],
    ['alg=HS256 for fetched keys', $location->("headgate_jwt_key_request /k alg=HS256;"), qr/secret/],
    ['an unknown algorithm', $location->("$source headgate_jwt_algorithms none;"), qr/none/],
    ['a URI that is none', $location->("headgate_jwt_key_request http://x/;"), qr/URI/],
    ['a URI with variables', $location->("headgate_jwt_key_request /\$host;"), qr/URI/],
    ['a lifetime over 24 hours', $location->("headgate_jwt_key_request /k; headgate_jwt_key_cache 25h;"), qr/25h/],
    ['17 remote sets', join('', map { "location /$_ { headgate_auth jwt; headgate_jwt_key_request /k$_; }" } 1 .. 17), qr/more than 16/],
    ['a zone without room for remote sets', join('', map { "location /$_ { headgate_auth jwt; headgate_jwt_key_request /k$_; }" } 1 .. 16), qr/headgate_zone "edge" is too small/, '512k'],
    ['a token in an argument', $location->("$source headgate_token_from arg:token;"), qr/arg:token/],
    ['a key in a cookie', $location->("$source headgate_api_key_from cookie:key;"), qr/cookie:key/],
    ['header:Authorization for keys', $location->("$source headgate_api_key_from header:Authorization;"), qr/bearer/],
    ['one place twice', $location->("$source headgate_token_from header:X-A header:x_a;"), qr/twice/],
    ['a place without a name', $location->("$source headgate_token_from cookie:;"), qr/name/],
    ['require without a variable', $location->("$source headgate_jwt_require error=403;"), qr/variable/],
    ['require of text', $location->("$source headgate_jwt_require admin;"), qr/admin/],
    ['require of a variable that does not exist', $location->("$source headgate_jwt_require \$nobody;"), qr/nobody/],
    ['require with another status', $location->("$source headgate_jwt_require \$host error=404;"), qr/404/],
);
for my $case (@cases) {
    my ($name, $text, $expected, $zone) = @$case;
    my $checked = $t->nginx(name => 'checked', no_start => 1, http => "headgate_zone edge:@{[ $zone // '2m' ]}; headgate_redis 127.0.0.1:6379;", server => $text);
    my ($code, $said) = $checked->test_configuration;
    $expected ? isnt($code, 0, "nginx -t refuses $name") : is($code, 0, "nginx -t accepts $name") || diag $said;
    like $said, $expected, '... and says why' if $expected;
}

$t->done;
