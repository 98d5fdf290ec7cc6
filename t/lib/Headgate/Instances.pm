# Several `headgate serve` on one PostgreSQL and one Redis (or cluster): started beside a first one, and what each says that
# it owns. Also a Headgate::Account of events; more options: shards, and publish_some, a sub that publishes a few.
package Headgate::Instances;
use v5.36;

use parent 'Headgate::Account';

use Headgate::Http;

my $LANES = 256;

# ---- instances -----------------------------------------------------------------------------------

# One more: the same files, another address. Returns its process.
sub start ($self, $name) {
    my ($t, $first) = @$self{qw(t sidecar)};
    my $port    = $t->port;
    my $process = $t->start(
        name => $name, command => [$first->executable, 'serve', '--config', $first->config], stop_seconds => 15,
        env  => { HEADGATE_HTTP_LISTEN => "127.0.0.1:$port" },
    );
    $t->wait_for_port($port, $process);
    $self->{port}{ $process->pid } = $port;
    return $process;
}

sub health ($self, $process) { Headgate::Http->connect(port => $self->{port}{ $process->pid })->request('GET', '/health') }

# What each says that it owns: pid => [shards, lanes].
sub shares ($self) {
    my $redis = $self->{sidecar}->redis;
    my %shares;
    for my $server ($redis->can('masters') ? $redis->masters : $redis) {
        for my $key ($server->command('KEYS', 'headgate:status:sidecar:*')->@*) {
            my %status = $server->command('HGETALL', $key)->@*;
            my ($pid) = $key =~ /:(\d+)\z/;
            $shares{$pid} = [@status{qw(shards lanes)}] if %status;
        }
    }
    return \%shares;
}

# Evenly by these, and everything.
sub is_shared_by ($self, @processes) {
    my $shares = $self->shares;
    for my $kind ([0, $self->{shards}], [1, $LANES]) {
        my ($column, $total) = @$kind;
        my @owned = sort { $a <=> $b } map { ($shares->{ $_->pid } // [0, 0])->[$column] } @processes;
        my $sum = 0;
        $sum += $_ for @owned;
        return 0 if $sum != $total || $owned[-1] - $owned[0] > 1;
    }
    return 1;
}

# With events all the while.
sub publish_until_shared_by ($self, $what, $seconds, @processes) {
    $self->{t}->wait_for($what, sub { $self->{publish_some}->(); $self->is_shared_by(@processes) }, $seconds);
}

# ---- leases, as the store has them ----------------------------------------------------------------

# "kind part" => { owner, epoch, until (ms) }; the owner by its pid.
sub leases ($self, $postgres) {
    my %leases;
    for my $row (split /\n/, $postgres->sql('SELECT kind, part, owner, epoch, until FROM leases')) {
        my ($kind, $part, $owner, $epoch, $until) = split /\|/, $row;
        my (undef, $pid) = split /:/, $owner;
        $leases{"$kind $part"} = { pid => $pid // 0, epoch => $epoch, until => $until };
    }
    return \%leases;
}

1;
