# A PostgreSQL server of the test's own: its files and its unix socket below the test's directory, no TCP, stopped by its
# pid. It refuses to run as root, so that as root it runs as the user `postgres`.
package Headgate::Postgres;
use v5.36;

use File::Temp qw(tempdir);

# Dies where it is not installed.
sub start ($class, $t) {
    my ($bin) = reverse sort glob '/usr/lib/postgresql/*/bin';
    die "PostgreSQL is not installed\n" if !$bin;
    my $as = [];
    # The path of a unix socket is limited to 107 bytes, and the user `postgres` must be able to reach it.
    my $dir = tempdir('headgate-pg-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    if ($> == 0) {
        my ($uid, $gid) = (getpwnam 'postgres')[2, 3];
        die "there is no user postgres\n" if !defined $uid;
        chown $uid, $gid, $dir or die "chown $dir: $!";
        $as = ['setpriv', "--reuid=$uid", "--regid=$gid", '--clear-groups'];
    }
    my $self = bless { t => $t, dir => $dir, bin => $bin, as => $as }, $class;
    my $made = $t->start(
        name => 'initdb', log => $t->path('initdb.log'),
        command => [@$as, "$bin/initdb", '-D', "$dir/data", '-U', 'headgate', '-A', 'trust', '-E', 'UTF8', '--locale=C', '-N'],
    );
    $made->wait(60) && $made->status == 0 or $t->die_with_logs('initdb failed');
    $t->forget($made);
    $self->{process} = $t->start(
        name => 'postgres', stop_signal => 'QUIT', log => $t->path('postgres.log'), command => [
            @$as, "$bin/postgres", '-D', "$dir/data", '-k', $dir, '-c', 'listen_addresses=', '-c', 'shared_buffers=32MB',
            '-c', 'max_connections=60', '-c', 'fsync=off', '-c', 'timezone=UTC',
        ],
    );
    $t->wait_for('postgres to answer', sub { defined eval { $self->sql('SELECT 1', 'postgres') } }, 30);
    $self->sql('CREATE DATABASE headgate', 'postgres');
    return $self;
}

sub process ($self) { $self->{process} }
sub url ($self) { "postgresql://headgate@/headgate?host=$self->{dir}" }

# What psql prints: rows in lines, columns separated by |.
sub sql ($self, $query, $database = 'headgate') {
    my @command = ("$self->{bin}/psql", '-h', $self->{dir}, '-U', 'headgate', '-X', '-q', '-At', '-v', 'ON_ERROR_STOP=1', '-c', $query, $database);
    my $pid = open(my $pipe, '-|') // die "fork: $!";
    if ($pid == 0) {
        open STDERR, '>', '/dev/null';
        exec @command or POSIX::_exit(127);
    }
    local $/;
    my $said = <$pipe> // '';
    close $pipe or die "psql failed: $query";
    chomp $said;
    return $said;
}

1;
