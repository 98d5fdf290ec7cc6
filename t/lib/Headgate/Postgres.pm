# A PostgreSQL server of the test's own: a directory, a unix socket and a loopback port, fsync on, and the same data after
# a crash() and restart(). It refuses to run as root: then it runs as the user `postgres`.
package Headgate::Postgres;
use v5.36;

use Headgate::Test;
use Test::More ();

# PostgreSQL is a part of the program, and what the tests need is installed by scripts/install_deps.sh: a test that cannot have
# it fails. HEADGATE_TEST_WITHOUT_POSTGRES=1 skips it, for a machine that has none.
sub need ($class) {
    my $executable = $ENV{HEADGATE_BIN} // Headgate::Test->root . '/build/headgate';
    my $missing = !(() = glob '/usr/lib/postgresql/*/bin/initdb') ? 'PostgreSQL is not installed'
        : !-x $executable                                   ? "$executable is missing"
        : qx(ldd $executable) !~ /libpq/                    ? 'this headgate was built without PostgreSQL' : return;
    Test::More::plan(skip_all => $missing) if $ENV{HEADGATE_TEST_WITHOUT_POSTGRES};
    die "$missing (HEADGATE_TEST_WITHOUT_POSTGRES=1 skips this test)\n";
}

# Options: name (postgres), extra (words of its command line).
sub start ($class, $t, %args) {
    my $name = $args{name} // 'postgres';
    my $self = bless {
        t => $t, name => $name, dir => $t->dir($name), port => $t->port, log => $t->path("$name.log"),
        extra => $args{extra} // [],
    }, $class;
    ($self->{bin}) = reverse sort { ($a =~ /(\d+)/)[0] <=> ($b =~ /(\d+)/)[0] } glob '/usr/lib/postgresql/*/bin';
    die 'no PostgreSQL server is installed (Debian package postgresql)' if !$self->{bin};
    if ($> == 0) {
        my (undef, undef, $uid, $gid) = getpwnam 'postgres' or die 'there is no user postgres';
        chown $uid, $gid, $self->{dir} or die "chown $self->{dir}: $!";
        $self->open_way($self->{dir});
    }
    my @initdb = ($self->as_user, "$self->{bin}/initdb", '-D', "$self->{dir}/data", qw(-U headgate -A trust -E UTF8 --locale=C -N));
    my $said = qx{cd / && @initdb 2>&1};
    die "initdb: $said" if $? != 0;
    return $self->restart;
}

# Those above a temporary directory may be root's alone.
sub open_way ($self, $dir) {
    while ($dir =~ s{/[^/]+\z}{} && $dir ne '' && $dir ne '/tmp') {
        my $mode = (stat $dir)[2] & 07777;
        chmod $mode | 0111, $dir if ($mode & 0111) != 0111;
    }
}

sub as_user ($self) { $> == 0 ? qw(runuser -u postgres --) : () }

sub port ($self)    { $self->{port} }
sub process ($self) { $self->{process} }
sub url ($self, $database = 'postgres') { "postgresql://headgate\@127.0.0.1:$self->{port}/$database" }

# Starts it, again after stop() or crash(), and waits until it answers.
sub restart ($self) {
    my $t = $self->{t};
    $t->forget($self->{process}) if $self->{process};
    my @server = (
        "$self->{bin}/postgres", '-D', "$self->{dir}/data", '-p', $self->{port}, '-k', '',
        map { ('-c', $_) } 'listen_addresses=127.0.0.1', 'shared_buffers=32MB', 'max_connections=60', $self->{extra}->@*
    );
    # setpriv takes our place, so that the process is the server itself and no shell in between.
    my @user = $> == 0 ? qw(setpriv --reuid=postgres --regid=postgres --init-groups --) : ();
    $self->{process} = $t->start(name => $self->{name}, command => [@user, @server], log => $self->{log}, stop_signal => 'INT', stop_seconds => 30);
    $t->wait_for(
        "$self->{name} to answer",
        sub {
            $t->die_with_logs("$self->{name} ended at start") if !$self->{process}->alive;
            return system("$self->{bin}/pg_isready -q -U headgate -h 127.0.0.1 -p $self->{port}") == 0;
        },
        60
    );
    return $self;
}

# SIGINT ends it fast; SIGTERM would wait for its clients.
sub stop ($self) { $self->{process}->stop }
# SIGKILL of all its processes, the first one first, as when the machine stops: nothing is written, and the next start recovers
# from the log. It would be held back by any that lived on.
sub crash ($self) {
    my $pid = $self->{process}->pid;
    open my $file, '<', "/proc/$pid/task/$pid/children" or die "postgres is gone: $!";
    my @children = split ' ', <$file> // '';
    $self->{process}->crash;
    kill 'KILL', @children;
    $self->{t}->wait_for('the processes of postgres to be gone', sub { !grep { kill 0, $_ } @children }, 10);
}

# psql with a query, as a command.
sub query_command ($self, $query, $database = 'postgres') {
    return ("$self->{bin}/psql", '-XAtq', '-v', 'ON_ERROR_STOP=1', '-c', $query, $self->url($database));
}

# What psql prints: rows in lines, columns separated by |.
sub sql ($self, $query, $database = 'postgres') {
    my $pid = open(my $pipe, '-|', $self->query_command($query, $database)) // die "psql: $!";
    local $/;
    my $said = <$pipe> // '';
    close $pipe or die "psql: $query: exit $?";
    $said =~ s{\n\z}{};
    return $said;
}

1;
