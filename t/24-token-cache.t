# Verified tokens and API keys in the zone: what is remembered, for whom, and until when. A bounded zone stays bounded.
use v5.36;
use Test::More;

use Digest::SHA qw(hmac_sha256);
use Headgate::Credentials qw(make_api_key random_hex pepper_fingerprint api_key_hash uuid);
use Headgate::Edge;
use Headgate::Load;
use Headgate::Test;

my $t      = Headgate::Test->new;
my $other  = random_hex(32);
my $other_file    = $t->write_file('edge/other.key', "$other\n");
my $previous      = random_hex(32);
my $previous_file = $t->write_file('edge/previous', "$previous\n");
my $locations = <<~"CONF";
    location = /a {
        headgate_auth jwt api_key;
        add_header X-Reason \$headgate_auth_status always;
        add_header X-Who "\$headgate_org|\$headgate_key_id|\$headgate_sub|\$headgate_iss|\$headgate_scope|\$headgate_plan" always;
        empty_gif;
    }
    location = /same { headgate_auth jwt; headgate_require_scope events:write; empty_gif; }
    location = /other { headgate_auth jwt; headgate_jwt_key_file $other_file alg=HS256; empty_gif; }
    location = /limited {
        headgate_auth          jwt api_key;
        headgate_jwt_key_file  @{[ $t->path('edge/token.key') ]} alg=HS256;
        headgate_jwt_key_file  $other_file alg=HS256 issuer=partner org=partner scopes=events:write;
        headgate_limit         plan;
        empty_gif;
    }
    location = /ceiling {
        headgate_auth          jwt;
        headgate_jwt_key_file  @{[ $t->path('edge/token.key') ]} alg=HS256 scopes=events:read;
        headgate_require_scope events:write;
        empty_gif;
    }
    CONF
my $edge  = Headgate::Edge->start($t, locations => $locations);
my $nginx = $edge->nginx;

sub answer ($target, %credential) {
    my @headers = defined $credential{key} ? ('X-API-Key' => $credential{key}) : (Authorization => "Bearer $credential{token}");
    return $nginx->get($target, headers => \@headers);
}
sub get    ($target, %credential) { answer($target, %credential)->status }
sub reason ($target, %credential) { answer($target, %credential)->header('X-Reason') }
sub auth () { $edge->status->{auth} }
# How the counters change: {token_hits => 1, …}, what did not change left out.
sub change ($action) {
    my $before = auth();
    $action->();
    my $after = auth();
    return { map { $_ => $after->{$_} - $before->{$_} } grep { /_(?:hits|misses)$|^(?:tokens|keys)$/ && $after->{$_} != $before->{$_} } keys %$after };
}

# -- a token is verified once -----------------------------------------------------------------------
my $token = $edge->token;
is_deeply change(sub { is get('/a', token => $token), 200, 'a new token' }), { token_misses => 1, tokens => 1 }, 'is verified and kept';
is_deeply change(sub { is get('/a', token => $token), 200, 'again' for 1 .. 3 }), { token_hits => 3 }, 'and not verified again';
is_deeply change(sub { is get('/same', token => $token), 200, 'another location of the same policy' }), { token_hits => 1 }, 'shares it';
is $nginx->request('GET', '/a', headers => [Authorization => "Bearer ${token}x"])->status, 401, 'a byte more is another token';
is_deeply change(sub { is get('/a', token => $edge->token(claims => { exp => 1 })), 401, 'a token that is refused' }), { token_misses => 1 }, 'is not kept';

# -- a location never uses what was verified under other keys or another policy ---------------------------
is get('/other', token => $token), 401, 'another key: refused, though the token is known elsewhere';
is get('/ceiling', token => $token), 403, 'a lower ceiling: its own entry, without the scope';
is get('/a', token => $token), 200, 'and the first entry is as it was';
my $foreign = $edge->token(claims => { sub => 'f' });
is get('/ceiling', token => $foreign), 403, 'the other way round: under the ceiling first';
is get('/same', token => $foreign), 200, 'then without';

# -- the principal of a hit is that of the first ----------------------------------------------------------
{
    my $full = $edge->token(claims => { org => 'org-x', key => 'key-x', scope => 'events:write a:b', allowed_ips => '127.0.0.1 10.0.0.0/8' });
    my ($first, $second) = map { answer('/a', token => $full)->header('X-Who') } 1 .. 2;
    is $first, 'org-x|key-x|api|headgate|events:write a:b|pro', 'what a verified token says';
    is $second, $first, 'a cached one says as well';
    my $far = $edge->token(claims => { allowed_ips => '10.0.0.0/8' });
    is get('/a', token => $far), 403, 'an address outside allowed_ips';
    is get('/a', token => $far), 403, 'also from the cache';
}

# -- a key's own limits come with its tokens, and only with ours --------------------------------------------
for my $case (
    ['a key with limits of its own', [key => $edge->add_key(plan => 'pro', limits => '7r/h')], 7],
    ['a token made from it', [token => $edge->token(claims => { limits => '7r/h' })], 7],
    ['a token without', [token => $edge->token], 300],
    ['a foreign token that claims some', [token => Headgate::Credentials::jwt($other, claims => { iss => 'partner', limits => '7r/h' })], 300],
) {
    my ($what, $credential, $limit) = @$case;
    for my $time ('first', 'from the cache') {
        my @headers = $credential->[0] eq 'key' ? ('X-API-Key' => $credential->[1]) : (Authorization => "Bearer $credential->[1]");
        like $nginx->get('/limited', headers => \@headers)->header('RateLimit-Policy'), qr/q=$limit;/, "$what: $limit ($time)";
    }
}

# -- exp holds though the token is known --------------------------------------------------------------
{
    my $short = $edge->token(claims => { exp => time + 2 });
    is get('/a', token => $short), 200, 'a token that ends soon';
    my $said;
    $t->wait_for('it to end', sub { ($said = reason('/a', token => $short)) ne 'ok' });
    is $said, 'expired', 'expired, though cached';
}

# -- API keys ---------------------------------------------------------------------------------------------
my $key = $edge->add_key;
is_deeply change(sub { is get('/a', key => $key), 200, 'a new key' }), { key_misses => 1, keys => 1 }, 'is asked for and kept';
is_deeply change(sub { is get('/a', key => $key), 200, 'again' for 1 .. 3 }), { key_hits => 3 }, 'and not asked for again';
my $unknown  = make_api_key();
is_deeply change(sub { is get('/a', key => $unknown), 401, 'an unknown key' for 1 .. 2 }), { key_misses => 2 }, 'is asked for each time, and not kept';
is get('/a', key => $edge->add_key(expires_at => 1)), 401, 'an expired key';
my $soon = $edge->add_key(expires_at => (time + 2) * 1000);
is get('/a', key => $soon), 200, 'a key that ends soon';
my $said;
$t->wait_for('it to end', sub { ($said = reason('/a', key => $soon)) ne 'ok' });
is $said, 'expired', 'expired, though cached';

# A changed record is asked for as soon as it was announced.
my $name = $edge->key_name($key);
$edge->redis->command('HSET', $name, scopes => 'none:none', active => 1);
$edge->announce(key => $name =~ s/.*://r);
$t->wait_for('the new record', sub { get('/a', key => $key); (change(sub { get('/a', key => $key) })->{key_hits} // 0) == 1 });
$edge->redis->command('HSET', $name, active => 0);
$edge->announce(key => $name =~ s/.*://r);
$t->wait_for('the key to be refused', sub { ($said = reason('/a', key => $key)) ne 'ok' }, 2);
is $said, 'revoked', 'a key that was made inactive is refused at once';

# -- reload -----------------------------------------------------------------------------------------------
my $kept = auth()->{tokens};
$nginx->reload;
$edge->wait_until_ready;
is_deeply change(sub { is get('/a', token => $token), 200, 'after a reload with the same keys' }), { token_hits => 1 }, 'the token is still known';
cmp_ok auth()->{tokens}, '>=', $kept - 1, 'nothing was dropped';

# The pepper is replaced: keys of the one before are found, in one round trip more.
my $old_key = make_api_key();
$edge->redis->command('HSET', 'headgate:key:' . api_key_hash($previous, $old_key),
    id => uuid(), org => 'o', scopes => 'a:b', allowed_ips => '', plan => 'pro', limits => '', expires_at => '', active => 1, prefix => 'hg_x');
is get('/a', key => $old_key), 401, 'a key under another pepper is unknown';
# And the token's key is removed: a token that is cached dies with it.
(my $http = $nginx->{http}) =~ s{(headgate_api_key_pepper_file \S+)(?=;)}{$1 previous=$previous_file};
$http =~ s{headgate_jwt_key_file \S+ }{headgate_jwt_key_file $other_file };
$nginx->configure(http => $http);
$nginx->reload;
$t->wait_for('the new keys', sub { get('/a', token => $token) == 401 });
$t->wait_for('old workers to end', sub { $nginx->worker_pids == 1 });
is get('/a', token => $token), 401, 'a token whose key was removed is refused, though it was cached';
is get('/a', token => Headgate::Credentials::jwt($other)), 200, 'the new key is in force';
is get('/a', key => $old_key), 200, 'previous=: a key of the pepper before';
is_deeply change(sub { is get('/a', key => $old_key), 200, 'again' }), { key_hits => 1 }, 'is kept as well';
is get('/a', key => $edge->add_key), 200, 'and so is a key of the new one';
is get('/a', key => $unknown), 401, 'an unknown one is still unknown';
my $both = $edge->add_key(plan => 'free');
$edge->redis->command('HSET', 'headgate:key:' . api_key_hash($previous, $both),
    id => uuid(), org => 'o', scopes => 'a:b', allowed_ips => '', plan => 'pro', limits => '', expires_at => '', active => 1, prefix => 'hg_x');
is $nginx->get('/limited', headers => ['X-API-Key' => $both])->header('X-RateLimit-Limit'), 60, 'one under both is what the newer record says';
$edge->redis->command('HSET', 'headgate:meta', pepper_fp => pepper_fingerprint($previous));
is get('/a', key => make_api_key()), 401, 'Redis may name the pepper before';
$edge->redis->command('HSET', 'headgate:meta', pepper_fp => pepper_fingerprint(random_hex(32)));
is get('/a', key => make_api_key()), 503, 'a third one it may not';

# -- more than the zone can hold ----------------------------------------------------------------------------
{
    my $small = Headgate::Edge->start($t, name => 'small', redis => $t->redis(name => 'redis-small'), http => 'access_log off; keepalive_requests 1000000;', zone => '1m', locations => $locations);
    my $port  = $small->nginx->port;
    my $secret = $small->token_secret;
    my $n      = 100_000;
    my $head    = Headgate::Credentials::base64url('{"alg":"HS256"}');
    my $exp    = time + 3600;
    my $counts = Headgate::Load->run(
        port => $port, connections => 16, requests => $n, seconds => 120,
        bytes => sub ($i) {
            my $signed = "$head." . Headgate::Credentials::base64url(qq({"iss":"headgate","sub":"$i","org":"o","exp":$exp}));
            my $mac = Headgate::Credentials::base64url(hmac_sha256($signed, $secret));
            "GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer $signed.$mac\r\n\r\n";
        },
    );
    is_deeply $counts, { 200 => $n }, "$n distinct tokens in a zone of 1 MiB: every one is answered";
    my $auth = $small->status->{auth};
    cmp_ok $auth->{tokens}, '>', 1000, "$auth->{tokens} of them are kept";
    cmp_ok $auth->{evictions}, '>', $n / 2, 'the others made room';
    cmp_ok $auth->{tokens} + $auth->{evictions}, '<=', $n, 'and the numbers add up';
    unlike $small->nginx->error_text, qr/no memory/, 'without a word in the log';
}

$t->done;
