# Whose request it is, where two answers are possible: a refused credential beside another check that lets the request in,
# and two servers that one line of the configuration defines.
use v5.36;
use Test::More;

use MIME::Base64 qw(encode_base64);
use Headgate::Edge;
use Headgate::Http;
use Headgate::Keys;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $users = $t->write_file('users', "alice:{PLAIN}secret\n", 0644);
my %key   = map { $_ => Headgate::Keys->make($t, 'P-256') } qw(one two);
my %port  = map { $_ => $t->port } qw(one two);
my %set   = map { $_ => $t->write_file("html/$_.json", Headgate::Keys::jwks($key{$_}->jwk), 0644) } qw(one two);
my $server = sub ($name) {
    return "server { listen 127.0.0.1:$port{$name}; location = /keys { internal; alias $set{$name}; } location / { headgate_auth jwt; "
        . "headgate_jwt_key_request /keys issuer=https://$name.example org=$name scopes=admin; empty_gif; } }";
};
my $edge = Headgate::Edge->start(
    $t, http => join(' ', $server->('one'), $server->('two')),
    locations => <<~"CONF",
        location = /any {
            satisfy any; auth_basic staff; auth_basic_user_file $users;
            headgate_auth api_key; headgate_require_scope rare:thing; headgate_limit rate=1r/h; headgate_limit_mode exact;
            empty_gif;
        }
        CONF
);

# -- two servers on one line ------------------------------------------------------------------------------------------
sub status ($server, $signer, $issuer) {
    my $token = $key{$signer}->token('ES256', claims => { iss => "https://$issuer.example", sub => 'me' }, header => { kid => undef });
    return Headgate::Http->connect(port => $port{$server})->request('GET', '/', headers => [Authorization => "Bearer $token"])->status;
}
is status('one', 'one', 'one'), 200, "a server's own issuer";
is status('two', 'one', 'two'), 401, "... and its keys are not the next one's";
is status('two', 'two', 'two'), 200, '... which has its own';

# -- let in by another check ------------------------------------------------------------------------------------------
my @basic = (Authorization => 'Basic ' . encode_base64('alice:secret', ''));
my $get   = sub (@headers) { $edge->nginx->get('/any', headers => \@headers)->status };
is $get->('X-API-Key' => $edge->add_key), 401, 'a key without the scope, and no password';
is $get->('X-API-Key' => $edge->add_key, @basic), 200, '... beside a password';
is $get->('X-API-Key' => $edge->add_key, @basic), 429, 'another such key brings no limit of its own: who came in has no principal';
is $get->(@basic), 429, '... nor does none';

$t->done;
