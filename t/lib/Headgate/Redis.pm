# A redis-server of the test's own: AOF with `appendfsync always`, loopback and a unix socket, and
# the same data after a crash() and restart().
package Headgate::Redis;
use v5.36;

use Headgate::Resp;

# Options: appendonly (yes), appendfsync (always), password (of `user`, or requirepass), port, extra (lines of redis.conf).
sub start ($class, $t, %args) {
    my $name = $args{name} // 'redis';
    my $dir  = $t->dir($name);
    # A unix socket's path is limited to 107 bytes, which a long TMPDIR may use up.
    my $self = bless {
        t => $t, name => $name, dir => $dir, port => $args{port} // $t->port, path => "$dir/redis.sock",
        user => $args{user}, password => $args{password}, log => "$dir/redis.log",
    }, $class;
    my $conf = <<~"CONF";
        bind 127.0.0.1
        port $self->{port}
        unixsocket $self->{path}
        unixsocketperm 777
        dir $dir
        daemonize no
        save ""
        appendonly @{[ $args{appendonly} // 'yes' ]}
        appendfsync @{[ $args{appendfsync} // 'always' ]}
        maxmemory-policy noeviction
        CONF
    $conf .= "requirepass $args{password}\n" if defined $args{password} && !defined $args{user};
    $conf .= $args{extra} . "\n" if defined $args{extra};
    $self->{conf} = $t->write_file("$name/redis.conf", $conf);
    $self->restart;
    return $self;
}

sub port ($self) { $self->{port} }
sub path ($self) { $self->{path} }
sub process ($self) { $self->{process} }
sub url ($self) {
    my $user = defined $self->{password} ? ":$self->{password}@" : '';
    return "redis://${user}127.0.0.1:$self->{port}";
}

# Starts it, again after stop() or crash(), and waits until its data are loaded.
sub restart ($self) {
    my $t = $self->{t};
    $t->forget($self->{process}) if $self->{process};
    delete $self->{client};
    $self->{process} = $t->start(name => $self->{name}, command => ['redis-server', $self->{conf}], log => $self->{log});
    $t->wait_for(
        "$self->{name} to answer",
        sub {
            $t->die_with_logs("$self->{name} ended at start") if !$self->{process}->alive;
            my $client = $self->connect or return 0;
            return eval { $client->command('PING') eq 'PONG' };
        },
        30
    );
    return $self;
}

# Becomes a replica of another, at its port for TLS where they speak that; returns when it follows: Sentinel
# looks at it at once, and then after 10 s.
sub follow ($self, $master, $port = $master->port) {
    $self->command('REPLICAOF', '127.0.0.1', $port);
    my $seen = sub { $master->command('INCR', 'seen') > 1 && $master->command('WAIT', 1, 100) == 1 };
    $self->{t}->wait_for("$self->{name} to follow", $seen, 30) for 1 .. 2;
}

sub stop ($self)  { delete $self->{client}; $self->{process}->stop }
sub crash ($self) { delete $self->{client}; $self->{process}->crash }

sub connect ($self, %args) {
    return Headgate::Resp->connect(port => $self->{port}, user => $self->{user}, password => $self->{password}, %args);
}

# The client that command() and entries() use, made when first needed.
sub client ($self) {
    return $self->{client} //= $self->connect // die "cannot connect to $self->{name}";
}

sub command ($self, @words) { $self->client->command(@words) }

# Every stream of events there is, by shard in no particular order.
sub streams ($self) { sort $self->command('KEYS', 'headgate:{*}:events')->@* }
# All events of all shards: a list of {id, org, …} in each stream's order.
sub events ($self) {
    return map { $_->[1] } map { $self->client->entries($_) } $self->streams;
}
sub event_count ($self) {
    my $count = 0;
    $count += $self->command('XLEN', $_) for $self->streams;
    return $count;
}
# The event with this id (from a 201), or undef.
sub event ($self, $id) { (grep { $_->{id} eq $id } $self->events)[0] }

1;
