# What is revoked is refused by every worker: at once when it is pushed, and at the next reading of all revocations when the
# push is lost. What Redis loses is not forgotten, and a new zone lets nobody in before it has read them.
use v5.36;
use Test::More;

use Digest::SHA qw(sha256_hex);
use Headgate::Credentials qw(make_api_key random_hex thumbprint);
use Headgate::Edge;
use Headgate::Http;
use Headgate::Test;

my $t         = Headgate::Test->new;
my $redis     = $t->redis;
my $proxy     = $t->proxy(to_port => $redis->port);
my $locations = 'location = /a { headgate_auth jwt api_key; add_header X-Pid $pid always; add_header X-Reason $headgate_auth_status always; empty_gif; }';
my $edge      = Headgate::Edge->start(
    $t, workers => 4, redis => $redis, redis_address => '127.0.0.1:' . $proxy->port, locations => $locations,
    http => 'keepalive_requests 1000000;',
);
my $nginx = $edge->nginx;
$nginx->expect_alarms(qr/no room for all revocations/);

# A connection to each worker.
my %worker;
for (1 .. 500) {
    last if keys %worker == 4;
    my $http = $nginx->connect;
    my $pid  = $http->request('GET', '/a')->header('X-Pid');
    $worker{$pid} //= $http;
}
is keys %worker, 4, 'a connection to each of four workers' or $t->die_with_logs('not all workers were met');

sub header_of (%credential) {
    return defined $credential{key} ? ['X-API-Key' => $credential{key}] : [Authorization => "Bearer $credential{token}"];
}
# What each worker answers: "200 ok" if they agree, else all of it.
sub answers (%credential) {
    my %seen;
    for my $http (values %worker) {
        my $answer = $http->request('GET', '/a', headers => header_of(%credential));
        $seen{ $answer->status . ' ' . ($answer->header('X-Reason') // '') }++;
    }
    return join ', ', sort keys %seen;
}
sub becomes ($expected, $what, $seconds, %credential) {
    my $last;
    ok eval { $t->wait_for($what, sub { ($last = answers(%credential)) eq $expected }, $seconds); 1 }, $what or diag "it is $last";
}
sub member_of ($kind, $iss, $name) { "$kind:" . sha256_hex("$iss\0$name") }
sub token ($claims = {}, %args) { $edge->token(claims => $claims, %args) }
sub resyncs () { $edge->status->{auth}{resyncs} }

# -- pushed: each kind, on every worker, for what is cached and for what was never seen --------------------------------
my $now = time;
for my $case (
    ['key', 'key:k-1', sub { token({ key => 'k-1' }) }, sub { token({ key => 'k-2' }) }],
    ['jti', member_of('jti', 'headgate', 'j-1'), sub { token({ jti => 'j-1' }) }, sub { token({ jti => 'j-2' }) }],
    [
        'sub', member_of('sub', 'headgate', 's-1') . '@' . ($now - 10) * 1000,
        sub { token({ sub => 's-1', iat => $now - 11 }) }, sub { token({ sub => 's-1', iat => $now - 10 }) },
    ],
    [
        'sub, of a token that does not say when it was issued', member_of('sub', 'headgate', 's-2') . '@' . ($now - 10) * 1000,
        sub { token({ sub => 's-2', iat => undef }) }, sub { token({ sub => 's-3', iat => undef }) },
    ],
    ['kid', 'kid:' . thumbprint($edge->token_secret), sub { token() }, undef],
) {
    my ($what, $member, $of, $not_of) = @$case;
    my ($cached, $other) = ($of->(), $not_of ? $not_of->() : undef);
    is answers(token => $cached), '200 ok', "$what: a token that is let in";
    $edge->revoke($member);
    becomes('401 revoked', "$what: refused by every worker when it is revoked", 2, token => $cached);
    is answers(token => $of->()), '401 revoked', "$what: one that was never seen as well";
    is answers(token => $other), '200 ok', "$what: another is not meant" if $other;
    $edge->unrevoke($member);
    becomes('200 ok', "$what: taken back", 2, token => $cached);
}
my $key = $edge->add_key;
is answers(key => $key), '200 ok', 'an API key';
$edge->revoke('key:' . $edge->key_id($key));
becomes('401 revoked', 'an API key is refused by its id, though its record says nothing', 2, key => $key);
$edge->unrevoke('key:' . $edge->key_id($key));
becomes('200 ok', 'and taken back', 2, key => $key);

my $ended = token({ key => 'k-ended' });
$edge->revoke('key:k-ended', (time - 1) * 1000);
$edge->revoke('key:k-marker');
becomes('401 revoked', 'after the next entry', 2, token => token({ key => 'k-marker' }));
is answers(token => $ended), '200 ok', 'a revocation that has ended is none';

# -- the push is lost ---------------------------------------------------------------------------------------------
my $lost = token({ key => 'k-lost' });
is answers(token => $lost), '200 ok', 'a token';
$redis->command('ZADD', 'headgate:revoked', (time + 3600) * 1000, 'key:k-lost');
$edge->announce('resync');
becomes('401 revoked', 'what nobody announced is in force after a resync', 2, token => $lost);
$redis->command('ZREM', 'headgate:revoked', 'key:k-lost');
$edge->announce('resync');
becomes('200 ok', 'and what was taken back unannounced is not', 2, token => $lost);
{
    # More than a page, in an order of Redis's own.
    $redis->command('ZADD', 'headgate:revoked', map { ((time + 3600) * 1000, "key:many-$_") } 1 .. 1700);
    $edge->announce('resync');
    $t->wait_for('all of them', sub { $edge->status->{auth}{revocations} >= 1700 }, 5);
    is scalar(grep { answers(token => token({ key => "many-$_" })) ne '401 revoked' } 1, 500, 501, 1699, 1700), 0, 'every page was read';
    $redis->command('ZREM', 'headgate:revoked', map { "key:many-$_" } 1 .. 1700);
    $edge->announce('resync');
    $t->wait_for('they are gone', sub { $edge->status->{auth}{revocations} < 100 }, 5);
    pass 'what is gone from Redis is gone';
}

# -- the connection is lost ---------------------------------------------------------------------------------------
sub while_away ($action) {
    $proxy->command('refuse');
    $t->wait_for('the edge to notice', sub { $edge->status->{redis}{state} eq 'backoff' });
    $action->();
    $proxy->command('pass');
    $edge->wait_until_ready;
}
my $away    = token({ key => 'k-away' });
my $resyncs = resyncs();
is answers(token => $away), '200 ok', 'a token';
while_away(sub { $edge->revoke('key:k-away') });
becomes('401 revoked', 'what was announced while the edge was away is read afterwards', 5, token => $away);
is resyncs(), $resyncs, 'from the stream, where it left off';

my $trimmed = token({ key => 'k-trimmed' });
my $changed = $edge->add_key;
is answers(key => $changed), '200 ok', 'a key that is cached';
while_away(
    sub {
        $edge->revoke('key:k-trimmed');
        $redis->command('HSET', $edge->key_name($changed), active => 0);
        $edge->announce(key => $edge->key_name($changed) =~ s/.*://r);
        $edge->announce('jwks') for 1 .. 3;
        $redis->command('XTRIM', 'headgate:control', 'MAXLEN', 2);
    }
);
becomes('401 revoked', 'entries that were trimmed unseen: all revocations are read again', 5, token => $trimmed);
is answers(key => $changed), '401 revoked', 'and cached keys are forgotten';
cmp_ok resyncs(), '>', $resyncs, 'by a resync';

# -- Redis lost its memory ------------------------------------------------------------------------------------------
is answers(key => $key), '200 ok', 'a key that is cached';
$resyncs = resyncs();
while_away(sub { $redis->command('FLUSHALL') });
$t->wait_for('a resync', sub { resyncs() > $resyncs }, 5);
is answers(token => $trimmed), '401 revoked', 'what was revoked stays so';
is answers(token => token()), '200 ok', 'tokens go on';
is answers(key => $key), '503 unavailable', 'keys are not called unknown';
is answers(key => make_api_key()), '503 unavailable', 'no key is';
# The sidecar writes everything anew.
$key = $edge->add_key;
$edge->project;
$edge->announce('resync');
becomes('200 ok', 'what the sidecar no longer has is forgotten', 5, token => $trimmed);
is answers(key => $key), '200 ok', 'keys are known again';
is answers(key => make_api_key()), '401 unknown_key', 'and unknown ones unknown';
$_->close for values %worker;

# -- a new zone -----------------------------------------------------------------------------------------------------
$edge->revoke('key:k-early');
my $early = token({ key => 'k-early' });
$nginx->process->stop;
$proxy->command('delay 100');
$nginx->launch;
is $nginx->get('/a', headers => header_of(token => $early))->header('X-Reason'), 'revoked', 'the first request of a new zone waits for the revocations';
$nginx->process->stop;
$proxy->command('pass');
$proxy->command('refuse');
$nginx->launch;
is $nginx->get('/a', headers => header_of(token => $early))->status, 200, 'without Redis a signature is enough at first';
$proxy->command('pass');
$t->wait_for('the revocations to be read', sub { $nginx->get('/a', headers => header_of(token => $early))->status == 401 });
pass 'and not any more when Redis is there';
$nginx->process->stop;

# -- a zone without room --------------------------------------------------------------------------------------------
{
    my $other = $t->redis(name => 'redis-small');
    my $small = Headgate::Edge->start($t, name => 'small', zone => '256k', redis => $other, locations => $locations);
    $small->nginx->expect_alarms(qr/no room for all revocations/);
    my $reason = sub ($claims) { $small->nginx->get('/a', headers => header_of(token => $small->token(claims => $claims)))->header('X-Reason') };
    my $most   = $small->status->{auth}{revocations_max};
    my $until  = (time + 3600) * 1000;
    $other->command('ZADD', 'headgate:revoked', map { ($until, "key:r-$_") } 1 .. $most + 200);
    $small->announce('resync');
    $t->wait_for('the zone to be full', sub { $small->status->{auth}{revocations} == $most });
    is scalar(grep { $reason->({ key => "r-$_" }) ne 'revoked' } 1 .. $most + 200), 0, 'revocations that do not fit are asked of Redis';
    is $reason->({ key => 'free' }), 'ok', 'a token that is not revoked is let in';
    $t->wait_for('it to be said', sub { $small->nginx->error_text =~ /\[emerg\].*no room for all revocations: Redis is asked about every token/ });
    # A member with a time cannot be asked about; those have the last of the room.
    $small->revoke(member_of('sub', 'headgate', 's') . '@' . (time + 60) * 1000);
    $t->wait_for('a subject to be refused', sub { $reason->({ sub => 's' }) eq 'revoked' });
    $other->command('ZADD', 'headgate:revoked', map { ($until, member_of('sub', 'headgate', "s-$_") . '@1') } 1 .. $most);
    $small->announce('resync');
    $t->wait_for('no token to be let in', sub { $reason->({ key => 'free' }) eq 'unavailable' });
    $t->wait_for('it to be said', sub { $small->nginx->error_text =~ /no room for all revocations: no token is let in/ });
    $other->command('DEL', 'headgate:revoked');
    $small->announce('resync');
    $t->wait_for('room again', sub { $reason->({ key => 'free' }) eq 'ok' });
    is $small->status->{auth}{revocations}, 0, 'and all is well when they are gone';
}

$t->done;
