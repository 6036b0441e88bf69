package android.widget;

public class LinearLayout extends android.view.View {
    public static final int VERTICAL = 1;
    public LinearLayout(android.content.Context context) { super(context); }
    public int getOrientation() { return 0; }
    public void setOrientation(int orientation) {}
    public void addView(android.view.View child) {}
}
