# `headgate serve` when PostgreSQL is away at its start: it waits and says so, and begins when the server comes. What no
# waiting will mend ends it, with the reason.
use v5.36;
use Test::More;

use Headgate::Account;
use Headgate::Http;
use Headgate::Postgres;
use Headgate::Receiver;
use Headgate::Test;

Headgate::Postgres->need;

my $t        = Headgate::Test->new;
my $postgres = Headgate::Postgres->start($t);
my $redis    = $t->redis;
my $receiver = Headgate::Receiver->start($t);
my $sidecar  = $t->sidecar(redis => $redis, store => $postgres->url);
$sidecar->run_json('webhook', 'create', '--org', $sidecar->org, '--url', $receiver->url('w'), '--events', 'order.*');
sub get ($path) { Headgate::Http->connect(port => $sidecar->port)->request('GET', $path) }

# ---- it waits ------------------------------------------------------------------------------------

$postgres->stop;
$sidecar->serve;
is get('/live')->status, 200, '/live says yes while PostgreSQL is away';
my $health = get('/health');
is $health->status, 503, '/health does not';
like $health->body, qr/"reasons":\["the store could not be opened for \d+ ms"\]/, 'and says why';
my $answer = get('/api/webhooks');
is $answer->status, 503, 'the API is not there yet';
is $answer->header('Retry-After'), 2, 'and asks for patience';
my $told = sub { scalar(() = $sidecar->process->log_text =~ /store_unreachable error=.*action=retry/g) };
$t->wait_for('it to try again', sub { $told->() >= 3 });
ok $sidecar->process->alive, 'it goes on waiting';
$sidecar->process->stop;
is $sidecar->process->status, 0, 'it can be stopped meanwhile';

# ---- and begins ----------------------------------------------------------------------------------

$sidecar->serve;
is get('/health')->status, 503, 'it waits again';
$postgres->restart;
$sidecar->wait_until_healthy;
my $all = Headgate::Account->new($t, sidecar => $sidecar, front => $sidecar->front, receiver => $receiver);
$all->publish(['w'], type => 'order.created') for 1 .. 5;
$all->wait_for_all(15);
pass 'events are delivered once PostgreSQL is there';

$sidecar->process->stop;

# ---- what stays wrong ----------------------------------------------------------------------------

# The server wants a password of this one; the others come in as they are.
$postgres->sql($_) for q{CREATE ROLE guarded LOGIN PASSWORD 'right'}, q{CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'}, 'CREATE DATABASE newer';
$postgres->sql(q{CREATE TABLE schema_migrations (version BIGINT PRIMARY KEY, name TEXT, sha256 TEXT, applied_at BIGINT)}, 'newer');
$postgres->sql(q{INSERT INTO schema_migrations VALUES (9999, 'later', 'x', 0)}, 'newer');
my $hba = $postgres->sql('SHOW hba_file');
$t->write_file($hba, "host all guarded 127.0.0.1/32 scram-sha-256\n" . $t->read_file($hba), (stat $hba)[2] & 0777);
$postgres->sql('SELECT pg_reload_conf()');

my $at = '127.0.0.1:' . $postgres->port;
for my $case (
    ['a wrong password', "postgresql://guarded:wrong\@$at/postgres", qr/password authentication failed/],
    ['an unknown user', "postgresql://nobody\@$at/postgres", qr/role "nobody" does not exist/],
    ['an unknown database', "postgresql://headgate\@$at/nosuch", qr/database "nosuch" does not exist/],
    ['a database of another encoding', "postgresql://headgate\@$at/latin", qr/encoding is not UTF8/],
    ['a newer schema', "postgresql://headgate\@$at/newer", qr/newer than this program's/],
    ['a user without rights', "postgresql://guarded:right\@$at/newer", qr/permission denied/],
) {
    my ($name, $url, $pattern) = @$case;
    my $process = $t->start(
        name => $name =~ s/ /-/gr, command => [$sidecar->executable, 'serve', '--config', $sidecar->config], env => { HEADGATE_STORE_URL => $url },
    );
    $t->wait_for("$name: the end", sub { !$process->alive });
    ok $process->status != 0 && $process->log_text =~ $pattern, "$name ends it, with the reason" or diag $process->log_text;
    unlike $process->log_text, qr/wrong\b.*@|right\b.*@/, '... and without the password';
}

$t->done;
