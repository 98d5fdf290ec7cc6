# The reading of all revocations is what closes a gap: while it cannot be done nothing is let in for longer than
# headgate_auth_stale, and one that the sidecar writes in the middle of takes no revocation back.
use v5.36;
use Test::More;

use Headgate::Edge;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $redis = $t->redis;
my $proxy = $t->proxy(to_port => $redis->port);
my $edge  = Headgate::Edge->start(
    $t, redis => $redis, redis_address => '127.0.0.1:' . $proxy->port, redis_options => 'timeout=3s connect_timeout=1s',
    http      => 'headgate_auth_stale 2s;',
    locations => 'location = /a { headgate_auth jwt api_key; add_header X-Reason $headgate_auth_status always; empty_gif; }',
);
my $nginx = $edge->nginx;
sub reason ($token) {
    my $answer = $nginx->get('/a', headers => [Authorization => "Bearer $token"]);
    return $answer->status . ' ' . ($answer->header('X-Reason') // '');
}
# Entries of the control stream are trimmed unseen.
sub make_gap ($action) {
    $proxy->command('refuse');
    $t->wait_for('the edge to notice', sub { $edge->status->{redis}{state} eq 'backoff' });
    $action->();
    $edge->announce('jwks') for 1 .. 3;
    $redis->command('XTRIM', 'headgate:control', 'MAXLEN', 2);
}
sub scans () { $redis->command('INFO', 'commandstats') =~ /cmdstat_zscan:calls=([0-9]+)/ ? $1 : 0 }

# -- the reading fails, though the stream can be followed ---------------------------------------------------------
my $token = $edge->token(claims => { key => 'k-gap' });
# What is announced before the edge has its place in the stream is not read. Under memcheck nginx takes longer to start than
# headgate_auth_stale.
$t->wait_for(
    'the stream to be read',
    sub {
        $edge->announce('jwks');
        my $auth = $edge->status->{auth};
        return $auth->{control_entries} >= 1 && $auth->{redis_silent_ms} < 1500;
    }
);
is reason($token), '200 ok', 'a token';
make_gap(sub { $edge->revoke('key:k-gap') });
$redis->command('ACL', 'SETUSER', 'default', '-zscan');
$proxy->command('pass');
$edge->wait_until_ready;
$t->wait_for('tokens not to be let in', sub { reason($token) eq '503 unavailable' }, 10);
pass 'what was missed may be this token: it is not let in for longer than headgate_auth_stale';
$redis->command('ACL', 'SETUSER', 'default', '+zscan');
$t->wait_for('the revocation', sub { reason($token) eq '401 revoked' }, 10);
is reason($edge->token), '200 ok', 'and all is well when it can be read';

# -- the sidecar writes in the middle of a reading ------------------------------------------------------------------
# Redis has lost its memory, and a round reads it empty; the reply is late.
make_gap(sub { $redis->command('FLUSHALL') });
$proxy->command('pass');
$edge->wait_until_ready;
my $resyncs = $edge->status->{auth}{resyncs};
$t->wait_for('a resync', sub { $edge->status->{auth}{resyncs} > $resyncs }, 10);
is reason($token), '401 revoked', 'what was revoked stays so when Redis forgets it';
make_gap(sub { });
$proxy->command('pass');
$proxy->command('delay 400');
my $scans = scans();
$t->wait_for('the next round to read', sub { scans() > $scans }, 10);
$redis->command('ZADD', 'headgate:revoked', (time + 3600) * 1000, 'key:k-gap');  # as the sidecar does it
$edge->project;
$edge->announce('resync');
$resyncs = $edge->status->{auth}{resyncs};
my %seen;
$t->wait_for('two more rounds', sub { $seen{ reason($token) }++; $edge->status->{auth}{resyncs} >= $resyncs + 2 }, 20);
is_deeply [keys %seen], ['401 revoked'], 'a round that read before the sidecar wrote takes nothing back';
$proxy->command('pass');

$t->done;
