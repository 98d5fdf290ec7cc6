# Starts an example of conf/ as it stands there. The only changes are these, in this order:
#
#   modules/ngx_http_headgate_module.so   the module that was built
#   /etc/headgate/                        a directory with pepper, token.key, and plans.conf and log-formats.conf of conf/
#   /var/log/nginx/                       a directory of the test
#   listen [address:]port                 127.0.0.1 and a free port, the same one for each `listen` of that port
#   127.0.0.1:6379, :3000, :8787          the test's Redis, and an upstream that echoes for the other two
#   10.1.0.11:6379 and so on              the test's cluster
#   10.0.0.0/8                            127.0.0.0/8: where the test's requests come from
#
# nginx's own built-in paths are its user's business: they are given on the command line or added to `http`.
package Headgate::Example;
use v5.36;

use Headgate::Credentials qw(random_hex);
use Headgate::Echo;
use Headgate::Edge;
use Headgate::Nginx;
use Headgate::Redis;

# Options: redis, shards, files ({name => content} below /etc/headgate). Returns an object that answers like Headgate::Edge
# (add_key, token, publish) and knows its ports by the example's.
sub start ($class, $t, $file, %args) {
    my $name = $file =~ s/\.conf\z//r;
    my $self = bless {
        t => $t, name => $name, redis => $args{redis} // $t->redis(name => "$name-redis"), pepper => random_hex(32),
        token_secret => random_hex(32), ports => {},
    }, $class;
    my $dir = $t->dir($name);
    my $root = $t->root;
    my %files = (
        pepper => "$self->{pepper}\n", 'token.key' => "$self->{token_secret}\n",
        map({ $_ => $t->read_file("$root/conf/$_") } qw(plans.conf log-formats.conf)), ($args{files} // {})->%*,
    );
    $t->write_file("$name/etc/$_", $files{$_}) for keys %files;
    my $text = $self->localize($t->read_file("$root/conf/$file"), $dir);
    my $conf = $t->write_file("$name/nginx.conf", $text);
    Headgate::Edge::project($self, shards => $args{shards});
    # Headgate::Nginx knows how to start, watch and judge an nginx; the configuration is ours.
    $self->{nginx} = Headgate::Nginx->adopt_configuration($t, name => $name, conf => $conf, port => $self->port($args{port} // 8080), access_log => "$dir/access.log");
    return $self;
}

sub localize ($self, $text, $dir) {
    my $t      = $self->{t};
    my $module = Headgate::Nginx::module_path({ t => $t, asan => $ENV{HEADGATE_TEST_ASAN} });
    $text =~ s{modules/ngx_http_headgate_module\.so}{$module}g;
    $text =~ s{/etc/headgate/}{$dir/etc/}g;
    $text =~ s{/var/log/nginx/}{$dir/}g;
    $text =~ s{127\.0\.0\.1:6379}{'127.0.0.1:' . $self->{redis}->port}ge;
    $text =~ s{10\.1\.0\.11:6379 10\.1\.0\.12:6379 10\.1\.0\.13:6379}{$self->{redis}->seeds}ge;
    $text =~ s{(listen\s+)(?:[\d.]+:)?(\d+)}{$1 . '127.0.0.1:' . ($self->{ports}{$2} //= $t->port)}ge;
    if ($text =~ /127\.0\.0\.1:(?:3000|8787)\b/) {
        $self->{echo} = Headgate::Echo->start($t);
        $text =~ s{127\.0\.0\.1:(?:3000|8787)\b}{127.0.0.1:@{[ $self->{echo}->port ]}}g;
    }
    $text =~ s{10\.0\.0\.0/8}{127.0.0.0/8}g;
    my $temp = join '', map { "    ${_}_temp_path $dir/$_;\n" } qw(client_body proxy fastcgi uwsgi scgi);
    $temp .= "    access_log $dir/access.log;\n" if $text !~ /access_log/;
    $text =~ s/^http \{\n/http {\n$temp/m or die 'no http block';
    return $text;
}

# The port that stands for the example's.
sub port ($self, $theirs) { $self->{ports}{$theirs} // die "the example does not listen on $theirs" }
sub nginx ($self)         { $self->{nginx} }
sub redis ($self)         { $self->{redis} }

# What the edge's tests do, done the same way.
sub add_key ($self, %fields) { Headgate::Edge::add_key($self, plan => 'enterprise', %fields) }
sub key_name ($self, $key)   { Headgate::Edge::key_name($self, $key) }
sub key_id ($self, $key)     { Headgate::Edge::key_id($self, $key) }
sub token ($self, %args)     { Headgate::Edge::token($self, %args) }
sub headers ($self, %args)   { Headgate::Edge::headers($self, %args) }
sub publish ($self, %args)   { Headgate::Edge::publish($self, %args) }

sub access_log ($self, $count) { $self->{nginx}->access_lines($count) }

1;
