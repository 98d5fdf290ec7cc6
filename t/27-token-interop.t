# Tokens as others make them: by npm's jose and jsonwebtoken with every algorithm that each has, under keys in a JWKS
# and in PEM. Addresses that credentials are bound to, behind a proxy. And what bad signatures leave behind.
use v5.36;
use Test::More;

use JSON::PP ();
use MIME::Base64 qw(encode_base64);

use Headgate::Edge;
use Headgate::Keys;
use Headgate::Test;

my $t    = Headgate::Test->new;
my $dir  = $t->dir('minted');
my $mint = $t->root . '/t/clients/mint.mjs';
my $said = `node \Q$mint\E \Q$dir\E`;
is $?, 0, 'tokens were minted' or BAIL_OUT('node failed');
my @cases = JSON::PP->new->utf8->decode($said)->@*;

my @algorithms = do { my %seen; grep { !$seen{$_}++ } map { $_->{algorithm} } @cases };
my $parameters = 'issuer=https://mint.example org=claim:tenant scopes=events:*';
my $locations  = '';
for my $algorithm (@algorithms) {
    my $alg = $algorithm =~ /^HS/ ? "alg=$algorithm" : '';
    $locations .= "location = /jwks/$algorithm { headgate_auth jwt; headgate_jwt_key_file $dir/$algorithm.json $parameters; empty_gif; }\n"
        . "location = /pem/$algorithm { headgate_auth jwt; headgate_jwt_key_file $dir/$algorithm.pem $alg $parameters; empty_gif; }\n";
}
my $rsa = Headgate::Keys->make($t, 'RSA');
my $tls = $t->port;
Headgate::Keys::openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', 2, '-subj', '/CN=localhost',
    '-keyout', $t->path('tls.key'), '-out', $t->path('tls.crt'));
my $edge = Headgate::Edge->start(
    $t, http => 'keepalive_requests 1000000;',
    server => "listen 127.0.0.1:$tls ssl; ssl_certificate @{[ $t->path('tls.crt') ]}; ssl_certificate_key @{[ $t->path('tls.key') ]};"
        . ' set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;',
    locations => $locations . "location = /rs { access_log off; headgate_auth jwt; headgate_jwt_key_file @{[ $rsa->public_file ]}; empty_gif; }\n"
        . "location = /any { headgate_auth jwt api_key; empty_gif; }\n",
);
my $nginx = $edge->nginx;
my $ask   = sub ($target, $token, @headers) { $nginx->get($target, headers => [Authorization => "Bearer $token", @headers])->status };

# -- every algorithm of every library -----------------------------------------------------------------------
for my $case (@cases) {
    my ($library, $algorithm, $form) = $case->@{qw(library algorithm form)};
    is $ask->("/$form/$algorithm", $case->{token}), 200, "$library $algorithm, keys as $form";
    is $ask->("/$form/$algorithm", $case->{forged}), 401, '... and not by another key';
}
my %by_library;
$by_library{ $_->{library} }{ $_->{algorithm} } = 1 for @cases;
is_deeply { map { $_ => scalar keys $by_library{$_}->%* } keys %by_library }, { jose => 13, jsonwebtoken => 12 }, 'all algorithms were there';
my ($es256) = grep { $_->{algorithm} eq 'ES256' && $_->{form} eq 'jwks' } @cases;
is $ask->('/jwks/ES384', $es256->{token}), 401, 'a key of another algorithm does not serve';
my ($line) = grep { m{\|/jwks/ES256\z} } $nginx->access_lines;
is +(split /\|/, $line)[3], 'acme', 'the organization is of the claim';

# -- addresses ------------------------------------------------------------------------------------------------
my @addresses = (
    # allowed, from, status
    ['203.0.113.7', '203.0.113.7', 200],
    ['203.0.113.7', '203.0.113.8', 403],
    ['203.0.113.0/24', '203.0.113.255', 200],
    ['203.0.113.0/24', '203.0.114.0', 403],
    ['10.0.0.0/8 203.0.113.7/32', '203.0.113.7', 200],
    ['::ffff:203.0.113.7', '203.0.113.7', 200],
    ['203.0.113.7', '::ffff:203.0.113.7', 200],
    ['203.0.113.0/24', '::ffff:203.0.113.9', 200],
    ['2001:db8::/32', '2001:db8:1::5', 200],
    ['2001:db8::/32', '2001:db9::5', 403],
    ['2001:db8::1', '2001:0DB8:0::1', 200],
    ['2000::/3', '203.0.113.7', 403],
    ['127.0.0.1', '203.0.113.7', 403],    # the proxy's own address counts for nothing
    ['127.0.0.1', '', 200],
);
for my $case (@addresses) {
    my ($allowed, $from, $status) = @$case;
    my @from = length $from ? ('X-Forwarded-For' => $from) : ();
    my $what = "allowed_ips $allowed from " . ($from || '127.0.0.1');
    is $nginx->get('/any', headers => ['X-API-Key' => $edge->add_key(allowed_ips => $allowed), @from])->status, $status, "key: $what";
    is $ask->('/any', $edge->token(claims => { allowed_ips => $allowed }), @from), $status, "token: $what";
}

# -- 20,000 bad signatures, and TLS still works -----------------------------------------------------------------
# An error that OpenSSL leaves on its queue is taken for the next TLS connection's own.
my $token  = $rsa->token('RS256', header => { kid => undef });
my $forged = substr($token, 0, -8) . 'AAAAAAAA';
is $ask->('/rs', $token), 200, 'a good signature';
my $over_tls = sub ($count, $credential) {
    my %seen;
    my $connects = 0;
    open my $curl, '-|', 'curl', '-sk', '-o', '/dev/null', '-w', '%{http_code} %{num_connects}\n', '-H', "Authorization: Bearer $credential", "https://127.0.0.1:$tls/rs?n=[1-$count]" or die $!;
    while (<$curl>) { my ($status, $new) = split; $seen{$status}++; $connects += $new }
    close $curl;
    return { %seen, connects => $connects };
};
is_deeply $over_tls->(3000, $forged), { 401 => 3000, connects => 1 }, 'bad signatures over TLS do not disturb its connection';
my $http  = $nginx->connect;
my $batch = Headgate::Http->format_request('GET', '/rs', headers => [Authorization => "Bearer $forged"]) x 50;
my %seen;
for (1 .. 340) {
    $http->send_bytes($batch);
    $seen{ $http->read_response->status }++ for 1 .. 50;
}
is_deeply \%seen, { 401 => 17_000 }, '17,000 more without';
is_deeply $over_tls->(20, $token), { 200 => 20, connects => 1 }, 'and TLS still works';

$t->done;
