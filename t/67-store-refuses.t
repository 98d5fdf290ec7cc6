# The SQLite store refuses while events are published: another process has locked it for longer than we wait, a table takes
# no attempts. What arrives meanwhile stays in Redis, memory stays what it was, and all goes on by itself: every 201 is
# persisted once and delivered.
use v5.36;
use Test::More;

use Headgate::Faults;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $sidecar = $t->sidecar->serve->wait_until_healthy;
my $faults  = Headgate::Faults->start($t, $sidecar);
my $road    = $faults->road;

# ---- locked by another process ------------------------------------------------------------------------

$faults->mark_log;
open(my $lock, '|-', 'sqlite3', '-cmd', '.timeout 10000', $sidecar->{database}) // die $!;
$lock->autoflush(1);
print $lock "BEGIN IMMEDIATE;\n.shell touch @{[ $t->path('locked') ]}\n";
$t->wait_for('the lock', sub { -e $t->path('locked') });
$faults->is_held_back('locked', error => 'event=ingest\.persist_failed .*database is locked');
print $lock "COMMIT;\n";
close $lock;
$faults->goes_on('locked');

# ---- the log of attempts is refused --------------------------------------------------------------------

$faults->mark_log;
my $attempts = sub { $sidecar->sql_value('SELECT count(*) FROM attempts') };
$sidecar->change("CREATE TRIGGER no_log BEFORE INSERT ON attempts BEGIN SELECT RAISE(ABORT, 'no log'); END");
my $without = $attempts->();
$faults->progress('without a log of attempts');
my @published = map { $_->{id} } $road->lines($road->{sent});
$t->wait_for('every delivery to be settled', sub { !$sidecar->sql_value("SELECT count(*) FROM deliveries WHERE event_id <= '$published[-1]' AND state <> 'success'") });
is $attempts->(), $without, 'no log: no attempt is written down';
like $faults->log_since, qr/delivery\.record_refused .*no log/, 'no log: an error says so';
$sidecar->change('DROP TRIGGER no_log');
$faults->goes_on('no log');
$faults->is_sent_once('no log');

$faults->settle;

$t->done;
