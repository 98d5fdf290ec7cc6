# One row's world: the tests' own (servers on free loopback ports, started and stopped by pid), but in
# build/bench, because stores and append-only files must lie on a disk and not on a tmpfs, and without
# a test's verdict: what goes wrong here ends the run.
package Headgate::Bench::World;
use v5.36;

use parent 'Headgate::Test';

use File::Path qw(make_path remove_tree);
use JSON::PP ();

our $DIRECTORY = Headgate::Test->root . '/build/bench';

sub new ($class, %args) {
    make_path($DIRECTORY);
    local $ENV{TMPDIR} = $DIRECTORY;
    return $class->SUPER::new(%args);
}

sub bench_file ($self, $name) { $self->root . "/bench/$name" }
# A program built by bench/run.sh.
sub program ($self, $name) { "$DIRECTORY/cmake/bench/$name" }
# A peer module built by bench/build_peers.sh.
sub peer_module ($self, $name) { "$DIRECTORY/ngx_http_${name}_module.so" }

# A command to its end; its standard output, and death when it fails.
sub output_of ($self, @command) {
    my $pid = open(my $pipe, '-|', @command) // die "$command[0]: $!\n";
    local $/;
    my $said = <$pipe> // '';
    close $pipe;
    $self->die_with_logs("@command: wait status $?\n$said") if $? != 0;
    return $said;
}

# The same for a command whose last line is a JSON object.
sub json_of ($self, @command) {
    my ($line) = (split /\n/, $self->output_of(@command))[-1] // '';
    return eval { JSON::PP->new->utf8->decode($line) } // $self->die_with_logs("@command did not end with JSON: $line");
}

sub teardown ($self) {
    return if $self->{torn_down}++ || $self->{owner} != $$;
    $_->() for $self->{closers}->@*;
    my @complaints = grep { defined } map { $_->stop } reverse $self->{processes}->@*;
    push @complaints, map { $_->() } $self->{checks}->@*;
    $self->{keep} = 1 if @complaints;
    return @complaints;
}

sub done ($self) {
    my @complaints = $self->teardown;
    die join("\n", "the servers complained (files in $self->{dir}):", @complaints), "\n" if @complaints;
    remove_tree($self->{dir});
}

1;
