# The Redis below a row, with its persistence fixed and told, and its background work kept out of what
# is measured: rewrites of the append-only file happen when a run asks for them, between runs.
package Headgate::Bench::Redis;
use v5.36;

use parent 'Headgate::Redis';

use Headgate::Bench::Measure qw(cpu_ns);

# appendfsync: everysec unless given.
sub start ($class, $t, %args) {
    return $class->SUPER::start($t, appendfsync => 'everysec', extra => 'auto-aof-rewrite-percentage 0', %args);
}

# Processor time of all its threads so far, in ns.
sub cpu_ns_total ($self) { cpu_ns($self->process->pid) }

# As Redis itself reports it, for the head of a row.
sub describe ($self) {
    my %has;
    for my $name (qw(appendonly appendfsync save auto-aof-rewrite-percentage maxmemory-policy)) {
        $has{$name} = $self->command('CONFIG', 'GET', $name)->[1];
    }
    my ($version) = $self->command('INFO', 'server') =~ /^redis_version:(\S+)/m;
    return "Redis $version: " . join ', ', map { "$_ " . (length $has{$_} ? $has{$_} : '""') } sort keys %has;
}

# Empties the streams, so that every run begins with the same memory and file.
sub empty_streams ($self) {
    my @streams = $self->streams;
    $self->command('DEL', @streams) if @streams;
    $self->compact;
}

sub empty ($self) {
    $self->command('FLUSHALL');
    $self->compact;
}

# Rewrites the append-only file to what is left, and waits until nothing of that is under way.
sub compact ($self) {
    $self->command('BGREWRITEAOF') if $self->command('CONFIG', 'GET', 'appendonly')->[1] eq 'yes';
    $self->settle;
}

sub settle ($self) {
    $self->{t}->wait_for(
        'Redis to be done with its files',
        sub {
            my %info = $self->command('INFO', 'persistence') =~ /^(\w+):(\S*?)\r?$/mg;
            return !grep { $info{$_} } qw(aof_rewrite_in_progress aof_rewrite_scheduled aof_pending_bio_fsync);
        },
        60
    );
}

# How often a command has been called since CONFIG RESETSTAT.
sub calls ($self, $command) {
    return $self->command('INFO', 'commandstats') =~ /^cmdstat_\Q$command\E:calls=(\d+)/m ? $1 : 0;
}

1;
