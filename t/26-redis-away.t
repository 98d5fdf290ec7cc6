# Redis away: known API keys and validly signed tokens are good for headgate_auth_stale more, then nothing is, and all is
# well again when Redis is back. Whatever way it is away: refused, silent, or loading.
use v5.36;
use Test::More;

use Headgate::Credentials qw(make_api_key);
use Headgate::Edge;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $redis = $t->redis;
my $proxy = $t->proxy(to_port => $redis->port);
my $edge  = Headgate::Edge->start(
    $t, redis => $redis, redis_address => '127.0.0.1:' . $proxy->port, redis_options => 'timeout=300ms connect_timeout=300ms',
    http      => 'headgate_auth_stale 2s;',
    locations => <<~'CONF',
        location = /short { headgate_auth jwt api_key; add_header X-Reason $headgate_auth_status always; empty_gif; }
        location = /long { headgate_auth jwt api_key; headgate_auth_stale 1h; add_header X-Reason $headgate_auth_status always; empty_gif; }
        CONF
);
my $nginx = $edge->nginx;
sub reason ($target, %credential) {
    my @headers = defined $credential{key} ? ('X-API-Key' => $credential{key}) : (Authorization => "Bearer $credential{token}");
    my $answer  = $nginx->get($target, headers => \@headers);
    return $answer->status . ' ' . ($answer->header('X-Reason') // '');
}
my $key   = $edge->add_key;
my $token = $edge->token;
my $revoked = $edge->token(claims => { key => 'k-revoked' });
$edge->revoke('key:k-revoked');
$t->wait_for('the revocation', sub { reason('/short', token => $revoked) eq '401 revoked' });
is reason('/short', key => $key), '200 ok', 'a key';
is reason('/short', token => $token), '200 ok', 'a token';

for my $fault (qw(refuse stall_replies)) {
    $proxy->command($fault);
    $t->wait_for("$fault: the edge to notice", sub { $edge->status->{redis}{state} ne 'ready' });
    is reason('/short', key => $key), '200 ok', "$fault: a known key is good";
    is reason('/short', token => $token), '200 ok', 'a known token as well';
    is reason('/short', token => $edge->token), '200 ok', 'and one that was never seen';
    is reason('/short', token => $revoked), '401 revoked', 'one that is revoked stays so';
    is reason('/short', token => $edge->token(header => { alg => 'none' })), '401 bad_algorithm', 'and a forged one forged';
    is reason('/short', key => make_api_key()), '503 unavailable', 'an unknown key is not called unknown';

    $t->wait_for('headgate_auth_stale to pass', sub { reason('/short', key => $key) eq '503 unavailable' });
    $t->wait_for('for tokens as well', sub { reason('/short', token => $token) eq '503 unavailable' });
    cmp_ok $edge->status->{auth}{redis_silent_ms}, '>', 2000, 'Redis has been silent for longer';
    is reason('/short', token => $edge->token), '503 unavailable', 'a token that was never seen is not better';
    is reason('/short', token => $edge->token(header => { alg => 'none' })), '401 bad_algorithm', 'a forged one is still told so';
    is $nginx->get('/short', headers => [Authorization => "Bearer $token"])->header('Retry-After'), 1, 'with Retry-After';
    is reason('/long', key => $key), '200 ok', 'a location that waits longer lets the key in';
    is reason('/long', token => $token), '200 ok', 'and the token';

    $proxy->command('pass');
    $t->wait_for('Redis to be heard again', sub { reason('/short', token => $token) eq '200 ok' });
    $t->wait_for('also for keys', sub { reason('/short', key => $key) eq '200 ok' });
    pass "$fault: all is well again";
}

# A configuration that cannot work.
for my $case (['0s', qr/invalid time "0s"/], ['1s', qr/at least 2s/], ['x', qr/invalid time "x"/], ['2s; headgate_auth_stale 3s', qr/duplicate/]) {
    my ($value, $pattern) = @$case;
    my $bad = $t->nginx(name => 'bad', no_start => 1, http => "headgate_zone z:1m; headgate_redis 127.0.0.1:1; headgate_auth_stale $value;");
    my ($code, $said) = $bad->test_configuration;
    is $code, 1, "headgate_auth_stale $value: refused";
    like $said, $pattern, '... and says why';
}

$t->done;
