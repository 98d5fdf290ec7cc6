# The publishing rows: POST /events at the edge against a peer. Before anything is timed both sides are
# made to show that they do the work: the entry of a 201 is looked for in Redis, and what must be refused is.
package Headgate::Bench::Publish;
use v5.36;
use utf8;

use Exporter qw(import);
use JSON::PP ();

use Headgate::Bench::Credentials qw(credentials);
use Headgate::Bench::Events qw(write_events);
use Headgate::Bench::Http qw(edge_nginx lines_of_http load_http post_load $CONNECTIONS);
use Headgate::Bench::Measure qw(alternate);
use Headgate::Bench::Peers qw(floor_nginx);
use Headgate::Bench::Redis;

our @EXPORT_OK = qw(publish_row);

my $json = JSON::PP->new->utf8->canonical;

# A row. title, against, at_least; mode (`exact`, `lease`), peer (a function of Headgate::Bench::Peers with the
# world, Redis and the credentials; without one it is the floor: nginx that reads the body and answers the same
# 201); optional bytes (of an event, 1024), body_buffer (16k), process (what the figure is of), warm_up_seconds
# (1), why_not (a function that says why the peer cannot run here, or undef), conditions (more lines).
sub publish_row (%row) {
    my %lines = (lines => lines_of_http($row{process} // 'worker', [redis_us => 'µs of Redis per request']));
    return { ratio => 'theirs/ours', %row{qw(title against at_least)}, %lines, run => sub (@args) { run(\%row, @args) } };
}

sub run ($row, $t, $options, $say) {
    my $why_not = $row->{why_not} ? $row->{why_not}->() : undef;
    return { skipped => $why_not } if defined $why_not;
    my $redis       = Headgate::Bench::Redis->start($t);
    my $credentials = credentials($t, $redis);
    my $bytes       = $row->{bytes} // 1024;
    my %buffer      = (body_buffer => $row->{body_buffer} // '16k');
    my ($bodies_file) = write_events($t, bytes => $bytes);
    my ($body)  = split /\n/, $t->read_file($bodies_file);
    my %context = (t => $t, redis => $redis, credentials => $credentials, body => $body);

    my $edge   = edge_nginx($t, $redis, $credentials, %buffer, locations => location($row->{mode}));
    my $answer = show_that_it_publishes(%context, server => $edge, name => 'the edge');
    my $peer;
    if ($row->{peer}) {
        $peer = $row->{peer}->($t, $redis, $credentials, %buffer);
        show_that_it_publishes(%context, server => $peer, name => 'the peer');
    }
    else {
        $peer = floor_nginx($t, %buffer, status => 201, body => $answer);
        my $said = post(%context, server => $peer);
        $t->die_with_logs('the floor answered ' . $said->status) if $said->status != 201 || $said->body ne $answer;
    }

    my %load = (redis => $redis, path => '/events', load => post_load($bodies_file, $credentials->{token_file}));
    my $ours = sub ($seconds = $options->{seconds}) {
        return publish($t, $redis, %load, server => $edge, seconds => $seconds);
    };
    my $theirs = sub ($seconds = $options->{seconds}) {
        my %run = (%load, server => $peer, seconds => $seconds);
        return $row->{peer} ? publish($t, $redis, %run) : load_http($t, %run, redis => undef);
    };
    $say->('warming up');
    $_->($row->{warm_up_seconds} // 1) for $ours, $theirs;
    my ($our_results, $their_results) = alternate($options->{pairs}, $say, $ours, $theirs);
    return {
        ours       => $our_results,
        theirs     => $their_results,
        conditions => [
            sprintf('wrk, 1 thread, %d connections, events of %s, %d s a run; one nginx worker, client_body_buffer_size %s; no sidecar',
                $CONNECTIONS, $bytes % 1024 ? "$bytes B" : $bytes / 1024 . ' KiB', $options->{seconds}, $buffer{body_buffer}),
            $redis->describe . ' (TCP); streams emptied and file rewritten between runs',
            ($row->{conditions} // [])->@*,
        ],
    };
}

sub location ($mode) {
    return <<~"CONF";
        location = /events {
            headgate_auth jwt api_key;
            headgate_require_scope events:write;
            headgate_limit plan;
            headgate_limit_mode $mode;
            headgate_publish event;
        }
        CONF
}

# One measured run that stores: whatever wrk has counted is in Redis; up to one more of each connection
# was under way.
sub publish ($t, $redis, %load) {
    $redis->empty_streams;
    my $result = load_http($t, %load);
    my $stored = $redis->event_count;
    $t->die_with_logs("$stored entries for $result->{requests} answers")
        if $stored < $result->{requests} || $stored > $result->{requests} + $CONNECTIONS;
    $redis->empty_streams;
    return $result;
}

sub post (%args) {
    my $token = $args{token} // $args{credentials}{tokens}{bench};
    my @headers = ('Content-Type', 'application/json', 'Authorization', "Bearer $token");
    return $args{server}->request('POST', '/events', headers => \@headers, body => $args{body});
}

# Dies unless a 201 stands for an entry with what was sent, and forged tokens, broken bodies and requests
# over a limit are refused and store nothing. Returns the body of a 201.
sub show_that_it_publishes (%args) {
    my ($t, $redis, $credentials) = @args{qw(t redis credentials)};
    my $wrong  = sub ($what) { $t->die_with_logs("$args{name}: $what") };
    my $expect = sub ($what, $statuses, %changed) {
        my $answer = post(%args, %changed);
        $wrong->("$what: " . $answer->status . ' ' . $answer->body) if !grep { $_ == $answer->status } @$statuses;
        return $answer->body;
    };
    $redis->empty_streams;
    my $said = $expect->('an event', [201]);
    my $told = $json->decode($said);
    $wrong->("an answer without its members: $said") if ($told->{status} // '') ne 'pending' || !$told->{id} || !$told->{timestamp};
    my $entry = $redis->event($told->{id}) // $wrong->("no entry of $told->{id}");
    my $sent  = $json->decode($args{body});
    my %wants = (v => 1, org => 'org-bench', key => 'bench-key', type => $sent->{type}, source => $sent->{source}, via => 'api', ord => '', tp => '');
    for my $field (sort keys %wants) {
        $wrong->("field $field of the entry is " . ($entry->{$field} // 'missing')) if ($entry->{$field} // "\0") ne $wants{$field};
    }
    $wrong->('`at` of the entry is not now') if abs($entry->{at} / 1000 - time) > 60;
    # A peer may store the body as it came.
    my $stored = $json->decode($entry->{payload});
    $stored = $stored->{payload} if exists $stored->{payload};
    $wrong->('another payload in the entry') if $json->encode($stored) ne $json->encode($sent->{payload});

    my $token = $credentials->{tokens}{bench};
    $expect->('a forged token',  [401], token => substr($token, 0, -4) . 'AAAA');
    $expect->('half an event',   [400], body => substr($args{body}, 0, -1));
    $expect->('an event without a type', [400, 422], body => '{"source":"bench","payload":{}}');
    $wrong->('a refused event was stored') if $redis->event_count != 1;
    $expect->("request $_ of a plan of 2", [201], token => $credentials->{tokens}{tight}) for 1, 2;
    $expect->('one over the limit', [429], token => $credentials->{tokens}{tight});
    $wrong->('an event over the limit was stored') if $redis->event_count != 3;
    # The next side has limits of its own.
    $redis->command('DEL', $redis->command('KEYS', '*limit:*tight-key*')->@*);
    return $said;
}

1;
