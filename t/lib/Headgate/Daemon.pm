# A server that is no child of ours: nginx in the background, or the one that an upgrade of its binary has started. The
# same words as Headgate::Process, from which it differs in how it learns that the process has ended.
package Headgate::Daemon;
use v5.36;

use parent 'Headgate::Process';

# name, pid, log, stop_signal, stop_seconds.
sub new ($class, %args) { return bless {%args}, $class }

# Nobody may have waited for it yet: a zombie has ended.
sub alive ($self) {
    return 0 if defined $self->{status};
    if (open my $file, '<', "/proc/$self->{pid}/stat") {
        my $line = <$file> // '';
        return 1 if $line =~ /\) ([A-Z]) / && $1 ne 'Z' && $1 ne 'X';
    }
    $self->{status} = -1;
    return 0;
}

sub describe_exit ($self) { $self->alive ? 'still running' : 'gone' }

1;
