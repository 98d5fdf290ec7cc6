# One server process of a test: started with its output in a log file, stopped by its pid.
#
# Input: a command. Output: an object that knows whether the process lives and how it ended. Used by
# Headgate::Test, which stops whatever a test left running.
package Headgate::Process;
use v5.36;

use POSIX qw(WNOHANG setpgid);
use Time::HiRes qw(time sleep);

# name, command (array reference), log (path); optional env (hash), stop_signal, stop_seconds.
sub start ($class, %args) {
    my $self = bless { stop_signal => 'TERM', stop_seconds => 10, env => {}, %args }, $class;
    my $pid = fork() // die "fork: $!";
    if ($pid == 0) {
        # A group of its own: Ctrl-C reaches prove first, which lets the teardown run.
        setpgid(0, 0);
        open STDIN,  '<',  '/dev/null'  or POSIX::_exit(126);
        open STDOUT, '>>', $self->{log} or POSIX::_exit(126);
        open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
        $ENV{$_} = $self->{env}{$_} for keys $self->{env}->%*;
        $SIG{$_} = 'DEFAULT' for qw(PIPE INT TERM);
        { no warnings 'exec'; exec { $self->{command}[0] } $self->{command}->@*; }
        print STDERR "exec $self->{command}[0]: $!\n";
        POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    return $self;
}

sub pid ($self)  { $self->{pid} }
sub name ($self) { $self->{name} }
sub log ($self)  { $self->{log} }

# True while it runs; afterwards status() is its wait status.
sub alive ($self) {
    return 0 if defined $self->{status};
    my $got = waitpid $self->{pid}, WNOHANG;
    return 1 if $got == 0;
    $self->{status} = $got == $self->{pid} ? $? : -1;
    return 0;
}

sub status ($self) { $self->alive; $self->{status} }

sub describe_exit ($self) {
    my $status = $self->status;
    return 'still running' if !defined $status;
    return $status & 127 ? 'signal ' . ($status & 127) : 'exit ' . ($status >> 8);
}

sub signal ($self, $signal) { $self->alive ? kill($signal, $self->{pid}) : 0 }

# Waits for the end; returns false at the deadline.
sub wait ($self, $seconds = 10) {
    my $deadline = time + $seconds;
    my $pause    = 0.001;
    while ($self->alive) {
        return 0 if time > $deadline;
        sleep $pause;
        $pause = $pause * 2 > 0.05 ? 0.05 : $pause * 2;
    }
    return 1;
}

# Asks it to stop. Returns a complaint when it had to be killed, undef otherwise.
sub stop ($self) {
    return undef if !$self->alive;
    kill $self->{stop_signal}, $self->{pid};
    return undef if $self->wait($self->{stop_seconds});
    kill 'KILL', $self->{pid};
    $self->wait(5);
    return "$self->{name} (pid $self->{pid}) did not exit within $self->{stop_seconds} s of SIG$self->{stop_signal}";
}

# SIGKILL, as a crash test wants it.
sub crash ($self) {
    kill 'KILL', $self->{pid} if $self->alive;
    $self->wait(5) or die "$self->{name} survived SIGKILL";
}

sub log_text ($self) {
    open my $file, '<', $self->{log} or return '';
    local $/;
    return scalar(<$file>) // '';
}

1;
