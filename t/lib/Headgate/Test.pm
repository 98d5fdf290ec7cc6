# START HERE for integration tests. One object is one test's world: its own directory, its ports, its
# servers; teardown is part of the test and fails it on what a server should never have logged.
#
#   my $t = Headgate::Test->new;
#   my $redis = $t->redis;
#   my $nginx = $t->nginx(http => "...", server => "...");
#   ...
#   $t->done;
#
# Next files: Redis.pm, Nginx.pm, Http.pm; Edge.pm for a ready-made edge; Sidecar.pm for headgate.
package Headgate::Test;
use v5.36;

use Cwd qw(abs_path);
use Fcntl qw(LOCK_EX LOCK_NB);
use File::Basename qw(basename dirname);
use File::Path qw(make_path remove_tree);
use File::Spec ();
use File::Temp ();
use IO::Socket::INET;
use Test::More ();
use Time::HiRes qw(time sleep);

use Headgate::Process;

my @worlds;
our $ROOT = abs_path(dirname(__FILE__) . '/../../..');

# A write to a peer that has gone is an error to look at, not a death.
$SIG{PIPE} = 'IGNORE';

sub new ($class, %args) {
    my $name = basename($0) =~ s/\.t$//r;
    my $self = bless {
        dir       => File::Temp::tempdir("headgate-$name.XXXXXX", TMPDIR => 1),
        owner     => $$,
        processes => [],
        checks    => [],
        closers   => [],
        port_locks => [],
        %args,
    }, $class;
    my $interrupted = sub ($signal) { die "interrupted by SIG$signal\n" };
    $SIG{INT} = $SIG{TERM} = $interrupted;
    push @worlds, $self;
    return $self;
}

sub dir ($self, @parts) {
    my $path = join '/', $self->{dir}, @parts;
    make_path($path);
    return $path;
}

sub path ($self, $name) { "$self->{dir}/$name" }
sub root ($class_or_self) { $ROOT }

sub write_file ($self, $name, $content, $mode = 0600) {
    my $path = $name =~ m{^/} ? $name : $self->path($name);
    make_path(dirname($path));
    open my $file, '>:raw', $path or die "$path: $!";
    print {$file} $content;
    close $file or die "$path: $!";
    chmod $mode, $path;
    return $path;
}

sub read_file ($self, $name) {
    my $path = $name =~ m{^/} ? $name : $self->path($name);
    open my $file, '<:raw', $path or die "$path: $!";
    local $/;
    return scalar(<$file>) // '';
}

# A self-signed certificate with its key, both in one file whose path is returned; for this name and for 127.0.0.1.
sub certificate ($self, $name) {
    my ($pem, $key) = map { $self->path("$name.$_") } qw(pem key);
    my $said = `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=$name -addext subjectAltName=DNS:$name,IP:127.0.0.1 -keyout $key -out $pem 2>&1`;
    die "openssl: $said" if $? != 0;
    $self->write_file($pem, $self->read_file($pem) . $self->read_file($key));
    return $pem;
}

# A free loopback port below the ephemeral range, so that no outgoing connection can take it, held by
# a lock as long as this test lives, so that no other test of this user gets it.
sub port ($self) {
    my $locks = File::Spec->tmpdir . "/headgate-test-ports-$>";
    mkdir $locks, 0700;
    for (1 .. 500) {
        my $port = 10_000 + int rand 20_000;
        open my $lock, '>', "$locks/$port" or die "$locks/$port: $!";
        flock $lock, LOCK_EX | LOCK_NB or next;
        my $probe = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1) or next;
        close $probe;
        push $self->{port_locks}->@*, $lock;
        return $port;
    }
    die 'no free port';
}

# Starts a process that teardown will stop. See Headgate::Process for the arguments.
sub start ($self, %args) {
    $args{log} //= $self->path("$args{name}.log");
    my $process = Headgate::Process->start(%args);
    push $self->{processes}->@*, $process;
    return $process;
}

sub forget ($self, $process) {
    $self->{processes}->@* = grep { $_ != $process } $self->{processes}->@*;
}

# A check that teardown runs after everything has stopped: returns a list of complaints.
sub on_teardown ($self, $check) { push $self->{checks}->@*, $check }
# Something to close before servers are asked to stop (clients' connections).
sub on_stop ($self, $closer) { push $self->{closers}->@*, $closer }

# Polls until the condition returns something true; dies with the logs at the deadline.
sub wait_for ($self, $what, $condition, $seconds = 15) {
    my $deadline = time + $seconds * ($ENV{HEADGATE_TEST_VALGRIND} ? 4 : 1);
    my $pause    = 0.002;
    while (1) {
        my $value = $condition->();
        return $value if $value;
        $self->die_with_logs("gave up after $seconds s waiting for $what") if time > $deadline;
        sleep $pause;
        $pause = $pause * 1.5 > 0.1 ? 0.1 : $pause * 1.5;
    }
}

sub wait_for_port ($self, $port, $process) {
    $self->wait_for(
        "$process->{name} to listen on port $port",
        sub {
            $self->die_with_logs("$process->{name} ended at start: " . $process->describe_exit) if !$process->alive;
            return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 1);
        }
    );
}

sub show_logs ($self, $lines = 40) {
    my %seen;
    my @logs = grep { !$seen{$_}++ && !/access\.log\z/ } (map { $_->log } $self->{processes}->@*), glob("$self->{dir}/*.log $self->{dir}/*/*.log");
    for my $log (@logs) {
        open my $file, '<', $log or next;
        my @tail;
        while (<$file>) { push @tail, $_; shift @tail if @tail > $lines }
        next if !@tail;
        Test::More::diag("---- the end of $log");
        Test::More::diag($_) for map { s/\n\z//r } @tail;
    }
}

sub die_with_logs ($self, $message) {
    $self->show_logs;
    $self->{keep} = 1;
    die "$message\n";
}

# Stops everything, last started first, and reports what teardown found as one more test.
sub teardown ($self) {
    return if $self->{torn_down}++ || $self->{owner} != $$;
    $_->() for $self->{closers}->@*;
    my @complaints = grep { defined } map { $_->stop } reverse $self->{processes}->@*;
    push @complaints, map { $_->() } $self->{checks}->@*;
    Test::More::ok(!@complaints, 'teardown: every server stopped cleanly and logged nothing alarming');
    Test::More::diag("  $_") for @complaints;
}

sub done ($self) {
    $self->teardown;
    Test::More::done_testing();
    $self->remove_directory;
}

sub remove_directory ($self) {
    if ($self->{keep} || !Test::More->builder->is_passing || $ENV{HEADGATE_TEST_KEEP}) {
        $self->show_logs(15) if !$self->{keep};
        Test::More::diag("the files of this test are in $self->{dir}");
    }
    else {
        remove_tree($self->{dir});
    }
}

# A test that died half-way still stops its servers.
END {
    my $status = $?;
    $_->abandon for grep { defined } @worlds;
    $? = $status;
}

sub abandon ($self) {
    return if $self->{torn_down}++ || $self->{owner} != $$;
    $_->stop for reverse $self->{processes}->@*;
    $self->show_logs if !$self->{keep};
    Test::More::diag("the files of this test are in $self->{dir}");
}

sub redis ($self, %args)   { require Headgate::Redis;      Headgate::Redis->start($self, %args) }
sub nginx ($self, %args)   { require Headgate::Nginx;      Headgate::Nginx->start($self, %args) }
sub proxy ($self, %args)   { require Headgate::FaultProxy; Headgate::FaultProxy->start($self, %args) }
sub sidecar ($self, %args) { require Headgate::Sidecar;    Headgate::Sidecar->init($self, %args) }

1;
