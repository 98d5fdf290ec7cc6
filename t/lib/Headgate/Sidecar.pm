# `headgate` beside a Redis: its files made by `headgate init`, the server started and killed by pid, the
# command line, the database read with sqlite3, and an nginx in front of both as `init` prepares it.
package Headgate::Sidecar;
use v5.36;

use JSON::PP ();

use Headgate::Edge;
use Headgate::Http;

# Options: redis (one made before, or what has a url), redis_toml (lines for its section, instead of url, where they say so), env (for serve),
# dir (its name below the test's directory), postgres (a Headgate::Postgres, for the store) or store (its URL); else SQLite below the test's directory.
sub init ($class, $t, %args) {
    my $redis = $args{redis} // $t->redis;
    my $self  = bless { t => $t, redis => $redis, dir => $t->path($args{dir} // 'headgate'), port => $t->port, env => $args{env} // {}, postgres => $args{postgres} }, $class;
    $self->{database} = "$self->{dir}/headgate.db";
    $args{store} //= $args{postgres}->url if $args{postgres};
    my $made = $self->run_json(
        'init', '--dir', $self->{dir}, '--redis', $redis->url, '--store', $args{store} // "sqlite:$self->{database}",
        '--listen', "127.0.0.1:$self->{port}", '--org', 'test', '--json',
    );
    $self->{$_} = $made->{$_} // die "headgate init did not print $_" for qw(config org key_id api_key);

    # Receivers of tests listen on loopback.
    my $toml = $t->read_file($self->{config});
    my $found = $toml =~ s/^allow_networks = \[\]$/allow_networks = ["127.0.0.0\/8"]/mg;
    die "headgate.toml has $found lines `allow_networks = []`, not one" if $found != 1;
    for my $line (split /\n/, $args{redis_toml} // '') {
        my ($key) = $line =~ /^(\w+)/ or next;
        $toml =~ s/^$key = .*\n//m;
        $toml =~ s/^\[redis\]\n\K/$line\n/m;
    }
    $t->write_file($self->{config}, $toml);
    return $self;
}

# Other values in its file, for the next start: key => value as it stands there. Each key is there once.
sub configure ($self, %values) {
    my $toml = $self->{t}->read_file($self->{config});
    for my $key (sort keys %values) {
        my $found = $toml =~ s/^$key = .*$/$key = $values{$key}/mg;
        die "headgate.toml has $found lines `$key = …`, not one" if $found != 1;
    }
    $self->{t}->write_file($self->{config}, $toml);
    return $self;
}

sub redis ($self)   { $self->{redis} }
sub org ($self)     { $self->{org} }
sub api_key ($self) { $self->{api_key} }
sub process ($self) { $self->{process} }
sub port ($self)    { $self->{port} }
sub config ($self)  { $self->{config} }

sub executable ($self) { $ENV{HEADGATE_BIN} // $self->{t}->root . '/build/headgate' }

# The same libraries with failpoints (sidecar/base/failpoint_on.cpp).
sub executable_with_failpoints ($self) { $ENV{HEADGATE_FAILPOINTS_BIN} // $self->{t}->root . '/build/headgate-failpoints' }

# `serve` with HEADGATE_FAILPOINT set, already on its way to its end: returns the process.
sub serve_until ($self, $failpoint) {
    my $t = $self->{t};
    $t->forget($self->{process}) if $self->{process};
    return $self->{process} = $t->start(
        name => "headgate serve until $failpoint", command => [$self->executable_with_failpoints, 'serve', '--config', $self->{config}],
        env => { $self->{env}->%*, HEADGATE_FAILPOINT => $failpoint }, log => $t->path('headgate-serve.log'), stop_seconds => 15,
    );
}

# Changes the store beside the running server.
sub change ($self, $sql) {
    return $self->{postgres}->sql($sql) if $self->{postgres};
    my $said = `sqlite3 -cmd '.timeout 10000' $self->{database} @{[ quotemeta $sql ]} 2>&1`;
    die "sqlite3: $said" if $? != 0;
}


# A command of its command line: (exit code, what it printed, stderr included).
sub run ($self, @words) {
    my @command = ($self->executable, @words);
    push @command, '--config', $self->{config} if $self->{config};
    my $pid = open(my $pipe, '-|') // die "fork: $!";
    if ($pid == 0) {
        open STDERR, '>&', \*STDOUT;
        exec @command or die "exec $command[0]: $!";
    }
    local $/;
    my $said = <$pipe> // '';
    close $pipe;
    return ($? >> 8, $said);
}

# The same with --json; dies unless it exits 0.
sub run_json ($self, @words) {
    push @words, '--json' if !grep { $_ eq '--json' } @words;
    my ($code, $said) = $self->run(@words);
    $self->{t}->die_with_logs("headgate @words: exit $code\n$said") if $code != 0;
    my ($json) = $said =~ /^([\{\[].*)\z/ms;
    my $value = eval { JSON::PP->new->utf8->decode($json // '') };
    return $value // $self->{t}->die_with_logs("headgate @words did not print JSON:\n$said");
}

# `headgate serve`, again after a crash; returns when its API answers.
sub serve ($self) {
    my $t = $self->{t};
    $t->forget($self->{process}) if $self->{process};
    $self->{process} = $t->start(
        name => 'headgate serve', command => [$self->executable, 'serve', '--config', $self->{config}],
        env => $self->{env}, log => $t->path('headgate-serve.log'), stop_seconds => 15,
    );
    $t->wait_for_port($self->{port}, $self->{process});
    return $self if $self->{watched}++;
    $t->on_teardown(
        sub {
            my $status = $self->{process}->status // return 'headgate serve still runs';
            my @found  = grep { /Sanitizer|runtime error:|terminate called|\bcritical\b/ } split /\n/, $self->{process}->log_text;
            push @found, 'headgate serve ended with ' . $self->{process}->describe_exit if $status != 0 && !$self->{crashed};
            return @found;
        }
    );
    return $self;
}

sub crash ($self) { $self->{crashed} = 1; $self->{process}->crash }

# Until /health says 200: keys are projected, Redis and the store answer.
sub wait_until_healthy ($self, $seconds = 30) {
    $self->{t}->wait_for(
        'headgate serve to be healthy',
        sub { eval { Headgate::Http->connect(port => $self->{port})->request('GET', '/health')->status == 200 } }, $seconds
    );
    return $self;
}

# An nginx as an operator would set it up from the files of init.
sub front ($self, %args) {
    my $address = $args{redis_address} // '127.0.0.1:' . $self->{redis}->port;    # with options behind it
    my $backend = "http://127.0.0.1:$self->{port}";
    my $limit   = $args{limit} // 'headgate_limit plan default_plan=enterprise;';
    my %nginx   = map { $_ => $args{$_} } grep { exists $args{$_} } qw(workers asan name);
    $self->{front} = $self->{t}->nginx(
        %nginx,
        http => <<~"CONF",
            headgate_zone edge:16m;
            headgate_redis $address;
            headgate_api_key_pepper_file $self->{dir}/pepper;
            headgate_jwt_key_file $self->{dir}/token.key alg=HS256;
            include $self->{dir}/plans.conf;
            client_max_body_size 2m;
            @{[ $args{http} // '' ]}
            proxy_set_header X-Forwarded-For \$remote_addr;
            $Headgate::Edge::LOG_FORMAT
            access_log @{[ $self->{t}->dir($args{name} // 'nginx') ]}/access.log edge;
            CONF
        server => <<~"CONF",
            location = /events {
                headgate_auth          jwt api_key;
                headgate_require_scope events:write;
                @{[ $args{events_limit} // '' ]}
                headgate_publish       event;
            }
            location = /status { headgate_status; access_log off; }
            location = /token { proxy_pass $backend; }
            location ~ ^/(health|live) { proxy_pass $backend; }
            location / {
                headgate_auth jwt api_key;
                $limit
                proxy_pass    $backend;
            }
            CONF
    );
    $self->{t}->wait_for('the edge to be ready', sub { eval { $self->{front}->get('/status')->json->{redis}{state} eq 'ready' } });
    return $self->{front};
}

# Rows of a query as hashes, read beside the running server.
sub sql ($self, $query) {
    return JSON::PP->new->utf8->decode($self->{postgres}->sql("SELECT coalesce(json_agg(q), '[]') FROM ($query) q"))->@* if $self->{postgres};
    my $said = `sqlite3 -readonly -json -cmd '.timeout 10000' $self->{database} @{[ quotemeta $query ]} 2>&1`;
    die "sqlite3: $said" if $? != 0;
    return $said =~ /\S/ ? JSON::PP->new->utf8->decode($said)->@* : ();
}

# Calls back with (id, type, source, payload as bytes) of each event in the store, one after the other.
sub each_event ($self, $callback) {
    my @command = $self->{postgres}
        ? $self->{postgres}->query_command("SELECT id, type, source, encode(convert_to(payload, 'UTF8'), 'hex') FROM events")
        : ('sqlite3', '-readonly', '-list', '-cmd', '.timeout 10000', $self->{database}, 'SELECT id, type, source, hex(payload) FROM events');
    open my $pipe, '-|', @command or die "$command[0]: $!";
    while (my $line = <$pipe>) {
        chomp $line;
        my ($id, $type, $source, $payload) = split /\|/, $line;
        $callback->($id, $type, $source, pack 'H*', $payload);
    }
    close $pipe or die "$command[0] failed";
}

# Rows as lists, for columns without bars and line feeds: large ones take JSON::PP minutes.
sub sql_lists ($self, $query) {
    my $said = `sqlite3 -readonly -list -cmd '.timeout 10000' $self->{database} @{[ quotemeta $query ]} 2>&1`;
    die "sqlite3: $said" if $? != 0;
    return map { [split /\|/, $_, -1] } split /\n/, $said;
}

# The one value of a query.
sub sql_value ($self, $query) {
    my ($row) = $self->sql($query);
    return $row ? (values %$row)[0] : undef;
}

1;
