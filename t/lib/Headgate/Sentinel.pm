# A Sentinel (redis-server --sentinel) that watches a Headgate::Redis under a name.
package Headgate::Sentinel;
use v5.36;

use Headgate::Resp;

# master: the Headgate::Redis; optional name (mymaster), down_after_ms (500), quorum (1), address of the master as it is
# to be named (its host and port), extra (lines of sentinel.conf), password (its own), master_password.
sub start ($class, $t, %args) {
    my $name = $args{name} // 'mymaster';
    my $self = bless { t => $t, name => $name, port => $t->port, password => $args{password} }, $class;
    my $address = $args{address} // '127.0.0.1 ' . $args{master}->port;
    my $down = $args{down_after_ms} // 500;
    my $conf = $t->write_file("sentinel-$self->{port}/sentinel.conf", <<~"CONF");
        bind 127.0.0.1
        port $self->{port}
        dir @{[ $t->dir("sentinel-$self->{port}") ]}
        daemonize no
        @{[ $args{extra} // '' ]}
        sentinel monitor $name $address @{[ $args{quorum} // 1 ]}
        sentinel down-after-milliseconds $name $down
        sentinel failover-timeout $name 5000
        @{[ defined $args{master_password} ? "sentinel auth-pass $name $args{master_password}" : '' ]}
        CONF
    my $process = $t->start(name => "sentinel-$self->{port}", command => ['redis-server', $conf, '--sentinel']);
    $t->wait_for_port($self->{port}, $process);
    return $self;
}

sub port ($self) { $self->{port} }
sub client ($self) { return $self->{client} //= Headgate::Resp->connect(port => $self->{port}, password => $self->{password}) }
sub command ($self, @words) { $self->client->command(@words) }
sub master_port ($self) { $self->command('SENTINEL', 'get-master-addr-by-name', $self->{name})->[1] }

# Until it has found so many replicas that could be promoted.
sub wait_for_replicas ($self, $count) {
    $self->{t}->wait_for(
        "the Sentinel to know $count replicas",
        sub {
            my $replicas = $self->command('SENTINEL', 'replicas', $self->{name});
            return $count <= grep { my %field = @$_; $field{'master-link-status'} eq 'ok' && $field{flags} eq 'slave' } @$replicas;
        },
        30
    );
}

1;
