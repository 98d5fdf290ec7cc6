# An edge alone: Redis, nginx with the module, and keys projected into Redis as the sidecar does it, so
# that the module can be tested without the sidecar.
#
#   my $edge = Headgate::Edge->start($t, locations => 'location = /x { ... }');
#   my $key  = $edge->add_key(scopes => 'events:write');
#   my $answer = $edge->publish({ type => 'a.b', source => 's', payload => {} }, key => $key);
#
# `location = /events` publishes; `location = /status` answers headgate_status.
package Headgate::Edge;
use v5.36;

use Headgate::Credentials qw(make_api_key api_key_hash pepper_fingerprint jwt json random_hex uuid);
use Headgate::Redis;

our $LOG_FORMAT = q{log_format edge '$status|$headgate_auth_status|$headgate_limit_status|$headgate_org|'
    '$headgate_key_id|$headgate_event_id|$request_method|$request_uri';};

# Options: redis (one made before), redis_address (what nginx is told, default TCP), redis_options
# (timeout=1s connect_timeout=1s), http, server, locations, events_location (replaces the body of
# /events), limit, workers, zone (4m), projected (1), name (of the nginx, for a second one), and those of Headgate::Nginx.
sub start ($class, $t, %args) {
    my $redis = $args{redis} // $t->redis;
    my $self  = bless { t => $t, redis => $redis, pepper => random_hex(32), token_secret => random_hex(32) }, $class;
    my $edge_dir    = defined $args{name} ? "edge-$args{name}" : 'edge';
    my $pepper_file = $t->write_file("$edge_dir/pepper",    "$self->{pepper}\n");
    my $token_file  = $t->write_file("$edge_dir/token.key", "$self->{token_secret}\n");
    my $address     = $args{redis_address} // '127.0.0.1:' . $redis->port;
    # Memcheck makes nginx so slow that a Redis in time seems late to it.
    my $options = $args{redis_options} // ($ENV{HEADGATE_TEST_VALGRIND} ? 'timeout=10s connect_timeout=5s' : 'timeout=1s connect_timeout=1s');

    my $http = <<~"CONF";
            headgate_zone edge:@{[ $args{zone} // '4m' ]};
            headgate_redis $address $options;
            headgate_api_key_pepper_file $pepper_file;
            headgate_jwt_key_file $token_file alg=HS256;
            headgate_plan free rate=60r/m rate=1000r/h;
            headgate_plan pro rate=300r/m rate=10000r/h;
            headgate_plan enterprise rate=1000r/m rate=50000r/h;
            headgate_plan unlimited rate=100000000r/s;
            $LOG_FORMAT
            access_log @{[ $t->dir($args{name} // 'nginx') ]}/access.log edge;
            client_max_body_size 8m;
            @{[ $args{http} // '' ]}
        CONF
    my $limit  = $args{limit} // '';
    my $events = $args{events_location} // <<~"CONF";
            headgate_auth jwt api_key;
            headgate_require_scope events:write;
            $limit
            headgate_publish event;
        CONF
    my $server = <<~"CONF";
            @{[ $args{server} // '' ]}
            location = /events { $events }
            location = /status { headgate_status; access_log off; }
            @{[ $args{locations} // '' ]}
        CONF
    $self->project(%args) if $args{projected} // 1;
    my %nginx = map { $_ => $args{$_} } grep { exists $args{$_} } qw(name workers asan main events module daemon no_start);
    $self->{nginx} = $t->nginx(%nginx, http => $http, server => $server);
    $self->wait_until_ready if ($args{wait} // 1) && !$args{no_start};
    return $self;
}

sub nginx ($self)        { $self->{nginx} }
sub redis ($self)        { $self->{redis} }
sub pepper ($self)       { $self->{pepper} }
sub token_secret ($self) { $self->{token_secret} }

# What the sidecar writes at its start.
sub project ($self, %args) {
    $self->{redis}->command(
        'HSET', 'headgate:meta', contract => 1, shards => $args{shards} // 8,
        pepper_fp => pepper_fingerprint($args{fingerprint_of} // $self->{pepper}), projected => 1,
    );
}

# A key as the sidecar projects it. Options are the fields of its hash; returns the key's text.
sub add_key ($self, %fields) {
    my $key = make_api_key();
    my %record = (
        id => uuid(), org => 'org-test', scopes => 'events:write', allowed_ips => '', plan => 'unlimited', limits => '',
        expires_at => '', active => 1, prefix => substr($key, 0, 11), %fields,
    );
    $self->{redis}->command('HSET', $self->key_name($key), %record);
    $self->{key_ids}{$key} = $record{id};
    return $key;
}

sub key_id ($self, $key)   { $self->{key_ids}{$key} }
sub key_name ($self, $key) { 'headgate:key:' . api_key_hash($self->{pepper}, $key) }

# What the sidecar writes to headgate:control.
sub announce ($self, $op, $ref = '', $until = 0) {
    return $self->{redis}->command('XADD', 'headgate:control', '*', op => $op, ref => $ref, until => $until);
}
# A revocation as the sidecar makes it: a member of headgate:revoked, and its announcement. until: ms, in an hour.
sub revoke ($self, $member, $until = (time + 3600) * 1000) {
    $self->{redis}->command('ZADD', 'headgate:revoked', $until, $member);
    return $self->announce(revoke => $member, $until);
}
sub unrevoke ($self, $member) {
    $self->{redis}->command('ZREM', 'headgate:revoked', $member);
    return $self->announce(unrevoke => $member);
}

sub token ($self, %args) { jwt($self->{token_secret}, %args) }

sub status ($self) { $self->{nginx}->get('/status')->json }

# Until a worker has its Redis connection and has read `headgate:meta`.
sub wait_until_ready ($self) {
    $self->{t}->wait_for('the edge to be ready', sub { eval { $self->status->{redis}{state} eq 'ready' } });
}

sub event_body (%members) {
    return json({ type => 'order.created', source => 'test', payload => { n => 1 }, %members });
}

# POST /events. key or token: the credential; body: bytes (default: a small event); headers: more of them;
# connection: a Headgate::Http to use; and what format_request takes.
sub publish ($self, %args) {
    my @headers = $self->headers(%args);
    my %request = (%args, headers => \@headers, body => $args{body} // event_body());
    return $args{connection}->request('POST', $args{target} // '/events', %request) if $args{connection};
    return $self->{nginx}->request('POST', $args{target} // '/events', %request);
}

sub headers ($self, %args) {
    my @headers = ($args{headers} // [])->@*;
    my %given   = map { lc $headers[$_] => 1 } grep { !($_ & 1) } 0 .. $#headers;
    push @headers, 'Content-Type' => 'application/json' if !$given{'content-type'};
    push @headers, 'X-API-Key' => $args{key} if defined $args{key};
    push @headers, 'Authorization' => "Bearer $args{token}" if defined $args{token};
    return @headers;
}

1;
